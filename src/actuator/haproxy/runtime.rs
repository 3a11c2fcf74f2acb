//! One HAProxy: its current worker over the runtime socket, its master and old workers over the master socket.

use super::client::{Client, ClientError, Recipient};
use super::command::Command;
use super::reply::{self, Info, Processes, ReplyError};

/// The sockets of one HAProxy. Without a master socket there are no reloads, and old workers are out of reach.
#[derive(Debug, Clone)]
pub struct Runtime {
    admin: Client,
    master: Option<Client>,
}

/// Which worker of a HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worker {
    /// The one that takes new connections.
    Current,
    /// One that was replaced and finishes what it has, by process id.
    Old(u32),
}

/// Why HAProxy could not be asked or did not do it.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No reply.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A reply that is no success.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// There is no master socket in the settings.
    #[error("`{0}` needs HAProxy's master socket, and none is set: start HAProxy with `-W -S SOCKET`")]
    NoMaster(&'static str),
}

impl RuntimeError {
    /// True if the worker that was asked has ended.
    pub fn process_is_gone(&self) -> bool {
        matches!(self, RuntimeError::Client(error) if error.process_is_gone())
    }
}

impl Runtime {
    /// A HAProxy with these sockets. `admin` needs `level admin`.
    pub fn new(admin: Client, master: Option<Client>) -> Runtime {
        Runtime { admin, master }
    }

    /// The client of the master socket.
    pub fn master(&self) -> Option<&Client> {
        self.master.as_ref()
    }

    /// Asks one worker one thing.
    pub async fn ask(&self, worker: Worker, command: &Command) -> Result<String, RuntimeError> {
        let (client, to) = self.seat(worker, command.name())?;
        match client.send(to, command).await {
            Ok(text) => Ok(text),
            Err(error) => match self.way_around(worker, &error).await {
                Some((master, to)) => Ok(master.send(to, command).await?),
                None => Err(error.into()),
            },
        }
    }

    /// Asks one worker several things; a reply for each.
    pub async fn ask_all(&self, worker: Worker, commands: &[Command]) -> Result<Vec<String>, RuntimeError> {
        let (client, to) = self.seat(worker, commands.first().map_or("", Command::name))?;
        match client.batch(to, commands).await {
            Ok(texts) => Ok(texts),
            Err(error) => match self.way_around(worker, &error).await {
                Some((master, to)) => Ok(master.batch(to, commands).await?),
                None => Err(error.into()),
            },
        }
    }

    /// Asks for something whose only success is an empty reply.
    pub async fn order(&self, worker: Worker, command: &Command) -> Result<(), RuntimeError> {
        Ok(reply::done(command.name(), &self.ask(worker, command).await?)?)
    }

    /// Who the current worker is.
    pub async fn info(&self) -> Result<Info, RuntimeError> {
        Ok(reply::info(&self.ask(Worker::Current, &Command::show_info()).await?)?)
    }

    /// The processes, from the master.
    pub async fn processes(&self) -> Result<Processes, RuntimeError> {
        let command = Command::show_proc();
        let master = self.master.as_ref().ok_or(RuntimeError::NoMaster(command.name()))?;
        Ok(reply::processes(&master.send(Recipient::Owner, &command).await?)?)
    }

    /// To the current worker through its master, where its own socket leads nowhere.
    ///
    /// From 3.1 on (seen with 3.2.26), the second reload in a row that fails on an address takes the socket along: the worker that
    /// failed had bound it anew. The one that serves goes on serving; the next good reload brings the socket back.
    async fn way_around(&self, worker: Worker, error: &ClientError) -> Option<(&Client, Recipient)> {
        let master =
            self.master.as_ref().filter(|_| worker == Worker::Current && error.nothing_was_sent())?;
        let processes = self.processes().await.ok().filter(|processes| processes.failed > 0)?;
        let [serves] = processes.workers.as_slice() else { return None };
        Some((master, Recipient::Worker(serves.pid)))
    }

    /// The current worker is asked over its own socket: it answers also while the master re-executes itself.
    fn seat(&self, worker: Worker, command: &'static str) -> Result<(&Client, Recipient), RuntimeError> {
        match worker {
            Worker::Current => Ok((&self.admin, Recipient::Owner)),
            Worker::Old(pid) => {
                let master = self.master.as_ref().ok_or(RuntimeError::NoMaster(command))?;
                Ok((master, Recipient::Worker(pid)))
            }
        }
    }
}
