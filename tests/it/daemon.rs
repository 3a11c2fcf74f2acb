//! The real program as a daemon, in front of a real HAProxy, on good days and on bad ones: a disk that is full or hangs,
//! settings that are wrong, a template that HAProxy refuses, sockets that are not there.

mod alertmanager;
mod alerts;
mod crash_points;
mod disk;
mod doctor;
mod engine;
mod healing;
mod listeners;
mod mailroom;
mod maintenance;
mod once;
mod relay;
mod relays;
mod replay;
mod rollback;
mod scripted;
mod second;
mod sequences;
mod serving;
mod settings;
mod slow_disk;
mod systemd;
mod trace;
mod world;
