//! An HAProxy that does not run, and a file that it would not survive.

use super::lab::{Lab, until};
use futures_util::future::BoxFuture;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use supervisor::actuator::haproxy::{
    BindCheck, Outcome, Target, Validate, ValidateError, Validation, Wanted, apply, keeper,
};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

/// A binary that is out of reach with its container; counts how often it was wanted.
#[derive(Default)]
struct Away(AtomicUsize);

impl Validate for Away {
    fn validate<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<Validation, ValidateError>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let source = std::io::Error::from(std::io::ErrorKind::NotConnected).into();
        Box::pin(async move { Err(ValidateError { with: "haproxy".to_owned(), source }) })
    }

    fn validate_text<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Validation, ValidateError>> {
        self.validate(Path::new("/dev/null"))
    }
}

#[tokio::test]
async fn the_last_good_file_is_put_back_once_where_nobody_can_be_asked() {
    let mut lab = Lab::start(|_| {}).await;
    let good = lab.rendered(|_| {});
    let target = lab.target(BindCheck::Skip);
    assert_eq!(apply(&target, &good).await.unwrap(), Outcome::Unchanged);
    lab.stop();
    // What is wanted by now is another one, which nobody has tried.
    let mut model = lab.model.clone();
    model.proxy.maxconn += 1;
    std::fs::write(lab.config_file(), "nonsense").unwrap();
    let away = Arc::new(Away::default());
    let wanted = Wanted {
        target: Target { validator: Arc::<Away>::clone(&away), ..target },
        model,
        template: None,
        take_over: false,
        reload_interval: std::time::Duration::from_millis(100),
    };
    let (_wanted, seen) = watch::channel(Arc::new(wanted));
    let (events, _lane) = mpsc::channel(64);
    let _keeper = AbortOnDropHandle::new(tokio::spawn(async move {
        let (_nobody, mut orders) = mpsc::channel(1);
        keeper::run("edge".parse().unwrap(), seen, &mut orders, events).await;
    }));
    let on_disk = || std::fs::read_to_string(lab.config_file()).unwrap();
    until("the last good file is back", async || on_disk() == good.text).await;
    let aside = lab.dir.path().join("haproxy.cfg.set-aside");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "nonsense");

    // HAProxy died of that one, too, as far as anybody knows: whoever mends it by hand is left alone.
    std::fs::write(lab.config_file(), "# mended by hand").unwrap();
    let asked = away.0.load(Ordering::SeqCst);
    until("two more turns are over", async || away.0.load(Ordering::SeqCst) >= asked + 3).await;
    assert_eq!(on_disk(), "# mended by hand");
}
