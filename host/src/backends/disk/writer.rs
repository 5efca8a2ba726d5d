//! The thread that writes: one transaction for all that has gathered.

use super::aside;
use super::error::failed;
use super::gather::Gather;
use super::lock::LockFile;
use super::pending::{Batch, Command, Pending, Shared, send_all};
use super::records;
use super::rows::{INSERT, insert, millis};
use super::topics::TopicChanges;
use super::trim::as_column;
use super::wal::Log;
use crate::builtin::storage::{Delta, Progress, StorageError, Trimmed};
use rusqlite::{Connection, TransactionBehavior, params};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tracing::{info, warn};

/// How many of those that may be published again are forgotten with each that is
/// not: two, so that they become fewer.
const ONCE_FORGOTTEN: usize = 2;

/// Owns the connection that writes.
pub(super) struct Writer {
    shared: Arc<Shared>,
    connection: Connection,
    log: Log,
    gather: Gather,
    /// The last commit failed, and that was said.
    is_failing: bool,
    _lock: LockFile,
}

/// What a transaction did.
struct Written<'a> {
    topics: TopicChanges<'a>,
    /// What became of each command that is over.
    answers: VecDeque<Answer>,
}

enum Answer {
    Changed(Result<(), StorageError>),
    Trimmed(Trimmed),
}

/// The progress of a subscription, as it was collected.
type Collected = (Arc<dyn Progress>, Delta);

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        mut connection: Connection,
        other: Connection,
        lock: LockFile,
    ) -> rusqlite::Result<Self> {
        let log = Log::of(&mut connection, other)?;
        let (gather, is_failing) = (Gather::default(), false);
        Ok(Self { shared, connection, log, gather, is_failing, _lock: lock })
    }

    /// Runs until the store is closed.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        // Last of all: the file and the lock are free by then.
        let _end = EndOnDrop(&shared);
        while let Some(batch) = shared.next_batch(&self.gather) {
            let is_last = batch.is_last;
            self.gather.gathered(batch.events.len());
            let is_over = self.commit(batch);
            if is_last && is_over {
                break;
            }
            self.log.shorten(&self.connection);
        }
        let Self { connection, log, _lock: lock, .. } = self;
        drop(log);
        // Closing the last connection removes the log; readers may still be there.
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        drop(connection);
        drop(lock);
    }

    /// Commits a batch and tells everybody. Returns whether all its commands are over.
    fn commit(&mut self, batch: Batch) -> bool {
        let Batch { events, mut commands, progress, .. } = batch;
        let collected: Vec<Collected> = progress
            .into_values()
            .filter_map(|subscription| subscription.collect().map(|delta| (subscription, delta)))
            .collect();
        if events.is_empty() && commands.is_empty() && collected.is_empty() {
            return true;
        }
        let begun = Instant::now();
        let (count, last) = (events.len(), events.last().map(|event| event.number));
        match write(&mut self.connection, &self.shared, &events, &mut commands, &collected) {
            Ok(Written { topics, answers }) => {
                let took = begun.elapsed();
                if std::mem::take(&mut self.is_failing) {
                    info!("the store `{}` can be written again", self.shared.path.display());
                }
                let bytes = topics.keep();
                let waiting = self.shared.resolve(&events, Some(bytes));
                self.gather.committed(events.len(), took, waiting);
                tell(events, collected, answers, &mut commands);
            }
            Err(error) => {
                let error = failed(&self.shared.path, "cannot write the store", &error);
                self.shared.resolve(&events, None);
                self.fail(&error, events, collected, std::mem::take(&mut commands));
            }
        }
        if let Some(last) = last {
            self.shared.settle(count, last);
        }
        let is_over = commands.is_empty();
        self.shared.put_back(commands);
        is_over
    }

    fn fail(
        &mut self,
        error: &StorageError,
        events: Vec<Pending>,
        collected: Vec<Collected>,
        commands: VecDeque<Command>,
    ) {
        if !std::mem::replace(&mut self.is_failing, true) {
            warn!("{error}; what is published fails until that is over");
        }
        let mut again = Vec::with_capacity(collected.len());
        for (subscription, delta) in collected {
            subscription.kept(delta, false);
            again.push(subscription);
        }
        self.shared.retry_progress(again);
        for event in events {
            if let Some(reply) = event.reply {
                let _ = reply.send(Err(error.clone()));
            }
        }
        for command in commands {
            match command {
                Command::Change(_, reply) => drop(reply.send(Err(error.clone()))),
                Command::Trim(_, reply) => drop(reply.send(Err(error.clone()))),
            }
        }
    }
}

/// Says that the writer has ended, also where it panics.
struct EndOnDrop<'a>(&'a Shared);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Writes everything in one transaction, which is durable when this returns.
fn write<'a>(
    connection: &mut Connection,
    shared: &'a Shared,
    events: &[Pending],
    commands: &mut VecDeque<Command>,
    collected: &[Collected],
) -> rusqlite::Result<Written<'a>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut topics = shared.topics.change();
    write_events(&transaction, &mut topics, events)?;
    let answers = run_commands(&transaction, &mut topics, commands)?;
    for (subscription, delta) in collected {
        records::apply(&transaction, subscription.id(), delta)?;
    }
    topics.write(&transaction)?;
    // No position that is kept is above it.
    let (number, time) = shared.last();
    let last = "UPDATE last SET number = ?1, time = ?2";
    transaction.prepare_cached(last)?.execute(params![as_column(number), time])?;
    transaction.commit()?;
    Ok(Written { topics, answers })
}

fn write_events(
    connection: &Connection,
    topics: &mut TopicChanges<'_>,
    events: &[Pending],
) -> rusqlite::Result<()> {
    let mut once = 0;
    let mut statement = connection.prepare_cached(INSERT)?;
    for Pending { number, publication, .. } in events {
        if publication.is_kept {
            let id = topics.id_or_new(&publication.topic);
            insert(&mut statement, *number, id, publication)?;
            let event = (*number, publication.time);
            topics.add(id, &publication.topic, event, publication.size);
        }
        for change in &publication.records {
            aside::put(connection, change)?;
        }
        if let Some((hash, until)) = publication.once {
            once += 1;
            let values = params![number, hash.to_be_bytes(), millis(until)];
            connection.prepare_cached("INSERT INTO once VALUES (?1, ?2, ?3)")?.execute(values)?;
        }
    }
    match events.last() {
        Some(last) if once > 0 => {
            let now = millis(last.publication.time);
            let sql = "DELETE FROM once WHERE until < ?1 AND number IN \
                       (SELECT number FROM once ORDER BY number LIMIT ?2)";
            connection.prepare_cached(sql)?.execute(params![now, once * ONCE_FORGOTTEN])?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Runs commands in their order, up to a trim that is not over in this transaction.
fn run_commands(
    connection: &Connection,
    topics: &mut TopicChanges<'_>,
    commands: &mut VecDeque<Command>,
) -> rusqlite::Result<VecDeque<Answer>> {
    let mut answers = VecDeque::new();
    for command in commands {
        match command {
            Command::Change(change, _) => answers.push_back(Answer::Changed(change(connection)?)),
            Command::Trim(job, _) => match job.step(connection, topics)? {
                Some(trimmed) => answers.push_back(Answer::Trimmed(trimmed)),
                None => break,
            },
        }
    }
    Ok(answers)
}

/// Delivers what is durable, in the order of the numbers, and answers. What is not
/// over stays in `commands`.
fn tell(
    events: Vec<Pending>,
    collected: Vec<Collected>,
    answers: VecDeque<Answer>,
    commands: &mut VecDeque<Command>,
) {
    for (subscription, delta) in collected {
        subscription.kept(delta, true);
    }
    let mut notices = Vec::with_capacity(events.len());
    for Pending { number, publication, reply } in events {
        notices.push(publication.deliver(number));
        if let Some(reply) = reply {
            // Who does not wait any more has gone.
            let _ = reply.send(Ok(number));
        }
    }
    for answer in answers {
        match (commands.pop_front(), answer) {
            (Some(Command::Change(_, reply)), Answer::Changed(result)) => drop(reply.send(result)),
            (Some(Command::Trim(_, reply)), Answer::Trimmed(trimmed)) => {
                drop(reply.send(Ok(trimmed)));
            }
            _ => {}
        }
    }
    send_all(notices);
}
