//! What the soak is asked to do.

use std::fmt;
use std::time::Duration;

pub(crate) const HELP: &str = "\
soak [--events COUNT] [--minutes COUNT] [--every SECONDS] [--seed NUMBER]
     [--broker stop|kill|keep] [--host kill|keep]

  --events COUNT        how many events (10000)
  --minutes COUNT       spread them over so long (as fast as they are handled)
  --every SECONDS       the mean time between two faults (5)
  --seed NUMBER         chooses the faults (random, and printed)
  --broker stop         SIGTERM: mosquitto writes its file before it ends (default)
  --broker kill         SIGKILL: what mosquitto has not written is lost
  --broker keep         it runs on
  --host kill           SIGKILL (default)
  --host keep           it runs on

The exit code is 1 if events were lost although mosquitto was never killed, or came twice
at qos 2 although the host was never killed.";

/// What is done to mosquitto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokerFault {
    Stop,
    Kill,
    Keep,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) events: usize,
    pub(crate) spread: Option<Duration>,
    pub(crate) every: Duration,
    pub(crate) seed: u64,
    pub(crate) broker: BrokerFault,
    pub(crate) kills_host: bool,
}

impl Options {
    /// Reads the arguments; `None` where help is asked for.
    pub(crate) fn parse(
        mut arguments: impl Iterator<Item = String>,
    ) -> Result<Option<Self>, String> {
        let mut options = Self {
            events: 10_000,
            spread: None,
            every: Duration::from_secs(5),
            seed: fastrand::u64(..),
            broker: BrokerFault::Stop,
            kills_host: true,
        };
        while let Some(name) = arguments.next() {
            if ["-h", "--help"].contains(&name.as_str()) {
                return Ok(None);
            }
            let value = arguments.next().ok_or_else(|| format!("`{name}` needs a value"))?;
            options.set(&name, &value)?;
        }
        Ok(Some(options))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--events" => self.events = number(name, value)?,
            "--minutes" => {
                self.spread = Some(Duration::from_secs(60 * number::<u64>(name, value)?))
            }
            "--every" => self.every = Duration::from_secs(number(name, value)?),
            "--seed" => self.seed = number(name, value)?,
            "--broker" => {
                self.broker = match value {
                    "stop" => BrokerFault::Stop,
                    "kill" => BrokerFault::Kill,
                    "keep" => BrokerFault::Keep,
                    _ => return Err(format!("`--broker` is stop, kill or keep, not `{value}`")),
                }
            }
            "--host" => {
                self.kills_host = match value {
                    "kill" => true,
                    "keep" => false,
                    _ => return Err(format!("`--host` is kill or keep, not `{value}`")),
                }
            }
            _ => return Err(format!("`{name}` is no option")),
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("`{name}` takes a number, not `{value}`"))
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, every, seed, broker, kills_host, .. } = self;
        let host = if *kills_host { "kill" } else { "keep" };
        write!(f, "{events} events, seed {seed}; every {every:?}: broker {broker:?}, host {host}")
    }
}
