//! The log lines of the code under test, where it runs in the test's process.

use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tracing_subscriber::fmt::MakeWriter;

/// The log lines since [`capture_logs`] was called.
///
/// All tests of one process write to the same log, so search for a text that
/// only this test causes: its client id, its port.
#[derive(Clone, Debug)]
pub struct Logs {
    buffer: Buffer,
    start: usize,
}

/// Begins to record log lines of level `debug` and above. They go to the test's
/// output too, which is shown when it fails.
#[must_use]
pub fn capture_logs() -> Logs {
    static BUFFER: LazyLock<Buffer> = LazyLock::new(|| {
        let buffer = Buffer::default();
        // A second subscriber in the process is a mistake of the test, which
        // then finds no lines and fails.
        let _set = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(buffer.clone())
            .try_init();
        buffer
    });
    let start = BUFFER.0.lock().unwrap_or_else(PoisonError::into_inner).len();
    Logs { buffer: BUFFER.clone(), start }
}

impl Logs {
    /// The lines so far, without colours: time, level, module, message, fields.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let bytes = self.buffer.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes[self.start..]).lines().map(str::to_owned).collect()
    }

    /// How many lines contain all of these texts.
    #[must_use]
    pub fn count(&self, texts: &[&str]) -> usize {
        self.lines().iter().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }
}

#[derive(Clone, Debug, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        eprint!("{}", String::from_utf8_lossy(bytes));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Buffer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
