//! A disk whose every sync takes its time.
//!
//! A library of a few lines is preloaded. strace can delay calls too; but it holds the whole process meanwhile, and strace
//! 6.1 never lets a process go on when a signal comes into such a delay.

use super::world::{Daemon, World};
use std::fs;
use std::process::Command;
use std::time::Duration;

impl World {
    /// A daemon for which each sync takes `delay` more than it does.
    pub(super) fn run_on_slow_disk(&self, delay: Duration) -> Daemon {
        let (source, library) = (self.path("slow_disk.c"), self.path("slow_disk.so"));
        fs::write(&source, include_str!("slow_disk.c")).unwrap();
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl");
        let built = compiler.output().expect("a C compiler, which the build needs too");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

        let preload = format!("LD_PRELOAD={}", library.display());
        let slow = format!("SLOW_DISK_US={}", delay.as_micros());
        let trace = format!("SLOW_DISK_TRACE={}", self.path("syncs").display());
        self.run_under(&["env", &preload, &slow, &trace])
    }

    /// How many times the slow disk was asked to sync.
    pub(super) fn syncs(&self) -> usize {
        fs::read_to_string(self.path("syncs")).unwrap_or_default().lines().count()
    }
}
