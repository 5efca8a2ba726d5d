//! A disk below SQLite that can be looked at after a crash, and that can fail.
//!
//! It passes everything on to the system and takes notes. From these it makes what a
//! disk may have after the power failed at any moment: all that was synced, and of
//! what was not any part of it. Nothing has to be killed for that.
//!
//! SQLite takes such a layer as a table of C functions: this file is the only one
//! of the tests with `unsafe`.

#![allow(unsafe_code)]

use rusqlite::ffi;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a power failure tears a write into: SQLite counts on no more.
const SECTOR_BYTES: usize = 512;

/// A disk that takes notes. There is one for each test; it is never freed.
pub struct SqliteDisk {
    name: CString,
    real: *mut ffi::sqlite3_vfs,
    notes: Mutex<Notes>,
}

// SAFETY: the system's layer may be used by all threads, and the rest has a lock.
unsafe impl Send for SqliteDisk {}
// SAFETY: as above.
unsafe impl Sync for SqliteDisk {}

#[derive(Default)]
struct Notes {
    operations: Vec<(String, Operation)>,
    fault: Option<(Fault, u64)>,
    failed: u64,
    lies: bool,
}

enum Operation {
    Write {
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate(usize),
    Sync,
    /// A sync that failed: the system has given up what was not synced, and will not
    /// try again.
    GivenUp,
    Delete,
}

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing more can be written: there is no room.
    Full,
    /// Likewise, in the middle of a write.
    Short,
    /// Writing fails.
    Write,
    /// Syncing fails, and a later sync does not make up for it.
    Sync,
}

/// A file that is open: ours, with that of the system behind it in memory.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    disk: &'static SqliteDisk,
    /// Without: a temporary file, of which no notes are taken.
    name: Option<String>,
    real: *mut ffi::sqlite3_file,
}

impl SqliteDisk {
    /// A new one, under a name of its own.
    ///
    /// # Panics
    /// SQLite has no layer of the system.
    pub fn new() -> &'static Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let name = format!("noting-{}", LAST.fetch_add(1, Ordering::Relaxed));
        // SAFETY: SQLite gives the layer of the system, which lives as long as the process.
        let real = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
        assert!(!real.is_null(), "SQLite has a layer of the system");
        let name = CString::new(name).unwrap_or_default();
        let disk: &'static Self = Box::leak(Box::new(Self { name, real, notes: Mutex::default() }));
        // SAFETY: `real` was checked. What is copied from it does not look at the table
        // that it is called with; what does is replaced.
        let vfs = unsafe {
            let own = size_of::<OpenFile>() as c_int;
            Box::leak(Box::new(ffi::sqlite3_vfs {
                szOsFile: own + (*real).szOsFile,
                pNext: std::ptr::null_mut(),
                zName: disk.name.as_ptr(),
                pAppData: std::ptr::from_ref(disk).cast_mut().cast(),
                xOpen: Some(open),
                xDelete: Some(delete),
                ..*real
            }))
        };
        // SAFETY: the table is whole and is never freed.
        let registered = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
        assert_eq!(registered, ffi::SQLITE_OK, "it can be registered");
        disk
    }

    /// What SQLite knows it by.
    pub fn name(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }

    /// How much has happened so far.
    pub fn operations(&self) -> usize {
        self.notes().operations.len()
    }

    /// How much had happened right before each sync: what was written last is not
    /// confirmed by then.
    pub fn before_syncs(&self) -> Vec<usize> {
        let notes = self.notes();
        let all = notes.operations.iter().enumerate();
        all.filter(|(_, (_, operation))| matches!(operation, Operation::Sync))
            .map(|(n, _)| n)
            .collect()
    }

    /// Fails from now on, after so many more operations of that kind, until
    /// [`heal`](Self::heal).
    pub fn fail(&self, fault: Fault, after: u64) {
        self.notes().fault = Some((fault, after));
    }

    /// Fails no more.
    pub fn heal(&self) {
        self.notes().fault = None;
    }

    /// From now on it says that it has synced, and has not.
    pub fn lie(&self) {
        self.notes().lies = true;
    }

    /// How often it has failed.
    pub fn failures(&self) -> u64 {
        self.notes().failed
    }

    /// Writes to `folder` what is there when the power fails after so many operations.
    /// `chance` says of each thing that was not synced whether it is there.
    ///
    /// # Panics
    /// The folder cannot be written.
    pub fn crash(&self, operations: usize, folder: &Path, mut chance: impl FnMut() -> bool) {
        let notes = self.notes();
        let mut files: BTreeMap<&str, Survivor<'_>> = BTreeMap::new();
        for (file, operation) in &notes.operations[..operations] {
            files.entry(file).or_default().apply(operation, &mut chance);
        }
        for (file, survivor) in files {
            if let Some(bytes) = survivor.after_crash(&mut chance) {
                let name = Path::new(file).file_name().unwrap_or_default();
                std::fs::write(folder.join(name), bytes).expect("the folder can be written");
            }
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an operation fails now.
    fn fails(&self, is_sync: bool) -> Option<Fault> {
        let mut notes = self.notes();
        let (fault, after) = notes.fault.as_mut()?;
        if (*fault == Fault::Sync) != is_sync {
            return None;
        }
        if *after > 0 {
            *after -= 1;
            return None;
        }
        let fault = *fault;
        notes.failed += 1;
        Some(fault)
    }
}

/// What is known of one file.
#[derive(Default)]
struct Survivor<'a> {
    synced: Option<Vec<u8>>,
    unsynced: Vec<&'a Operation>,
}

impl<'a> Survivor<'a> {
    fn apply(&mut self, operation: &'a Operation, chance: &mut impl FnMut() -> bool) {
        match operation {
            Operation::Sync => {
                let bytes = self.synced.get_or_insert_default();
                for operation in self.unsynced.drain(..) {
                    perform(operation, bytes, &mut || true);
                }
            }
            Operation::GivenUp => {
                // A file that was never synced is there or not, later.
                let Some(bytes) = &mut self.synced else { return };
                for operation in self.unsynced.drain(..) {
                    perform(operation, bytes, chance);
                }
            }
            Operation::Delete => *self = Self::default(),
            other => self.unsynced.push(other),
        }
    }

    fn after_crash(self, chance: &mut impl FnMut() -> bool) -> Option<Vec<u8>> {
        let mut bytes = match self.synced {
            Some(bytes) => bytes,
            // That it was made may be lost too.
            None if self.unsynced.is_empty() || !chance() => return None,
            None => Vec::new(),
        };
        for operation in self.unsynced {
            perform(operation, &mut bytes, chance);
        }
        Some(bytes)
    }
}

/// Does a part of an operation.
fn perform(operation: &Operation, bytes: &mut Vec<u8>, chance: &mut impl FnMut() -> bool) {
    match operation {
        Operation::Write { at, bytes: written } => {
            for (number, sector) in written.chunks(SECTOR_BYTES).enumerate() {
                if !chance() {
                    continue;
                }
                let at = at + number * SECTOR_BYTES;
                if bytes.len() < at + sector.len() {
                    bytes.resize(at + sector.len(), 0);
                }
                bytes[at..at + sector.len()].copy_from_slice(sector);
            }
        }
        Operation::Truncate(size) if chance() => bytes.truncate(*size),
        _ => {}
    }
}

/// # Safety
/// SQLite calls it with the table that was registered and room for the file.
unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    const NOTED: c_int =
        ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL;
    // SAFETY: `vfs` is the table of `new`; `file` has room for ours and the system's.
    unsafe {
        let disk = &*(*vfs).pAppData.cast::<SqliteDisk>();
        let real = file.cast::<u8>().add(size_of::<OpenFile>()).cast::<ffi::sqlite3_file>();
        (*file).pMethods = std::ptr::null();
        let Some(open) = (*disk.real).xOpen else { return ffi::SQLITE_CANTOPEN };
        let opened = open(disk.real, name, real, flags, out_flags);
        if opened != ffi::SQLITE_OK {
            return opened;
        }
        let name = (flags & NOTED != 0 && !name.is_null())
            .then(|| CStr::from_ptr(name).to_string_lossy().into_owned());
        let base = ffi::sqlite3_file { pMethods: &raw const METHODS };
        file.cast::<OpenFile>().write(OpenFile { base, disk, name, real });
    }
    ffi::SQLITE_OK
}

/// # Safety
/// SQLite calls it with the table that was registered and a name.
unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: `vfs` is the table of `new`, and `name` a text.
    unsafe {
        let disk = &*(*vfs).pAppData.cast::<SqliteDisk>();
        let Some(delete) = (*disk.real).xDelete else { return ffi::SQLITE_IOERR_DELETE };
        let deleted = delete(disk.real, name, sync);
        if deleted == ffi::SQLITE_OK {
            let name = CStr::from_ptr(name).to_string_lossy().into_owned();
            disk.notes().operations.push((name, Operation::Delete));
        }
        deleted
    }
}

impl OpenFile {
    /// # Safety
    /// `file` was opened by [`open`].
    unsafe fn of<'a>(file: *mut ffi::sqlite3_file) -> &'a Self {
        // SAFETY: `open` has written it there.
        unsafe { &*file.cast::<Self>() }
    }

    fn note(&self, operation: impl FnOnce() -> Operation) {
        if let Some(name) = &self.name {
            self.disk.notes().operations.push((name.clone(), operation()));
        }
    }

    fn fails(&self, is_sync: bool) -> Option<Fault> {
        self.name.as_ref().and_then(|_| self.disk.fails(is_sync))
    }
}

/// Calls the function of the system's file.
macro_rules! pass_on {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: `open` has opened both files, and SQLite closes them together.
        unsafe {
            let real = OpenFile::of($file).real;
            match (*(*real).pMethods).$method {
                Some(method) => method(real $(, $argument)*),
                None => ffi::SQLITE_IOERR,
            }
        }
    }};
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let closed = pass_on!(file, xClose);
    // SAFETY: SQLite does not use it after that.
    unsafe { file.cast::<OpenFile>().drop_in_place() };
    closed
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    to: *mut c_void,
    bytes: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    pass_on!(file, xRead, to, bytes, at)
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    bytes: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: `open` has opened it; SQLite gives so many bytes.
    let (ours, written) = unsafe {
        (OpenFile::of(file), std::slice::from_raw_parts(from.cast::<u8>(), bytes as usize))
    };
    match ours.fails(false) {
        Some(Fault::Full) => return ffi::SQLITE_FULL,
        Some(Fault::Short) => {
            let half = bytes / 2;
            if pass_on!(file, xWrite, from, half, at) == ffi::SQLITE_OK {
                let bytes = written[..half as usize].to_vec();
                ours.note(|| Operation::Write { at: at as usize, bytes });
            }
            return ffi::SQLITE_FULL;
        }
        Some(_) => return ffi::SQLITE_IOERR_WRITE,
        None => {}
    }
    let done = pass_on!(file, xWrite, from, bytes, at);
    if done == ffi::SQLITE_OK {
        ours.note(|| Operation::Write { at: at as usize, bytes: written.to_vec() });
    }
    done
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    let done = pass_on!(file, xTruncate, size);
    if done == ffi::SQLITE_OK {
        // SAFETY: `open` has opened it.
        unsafe { OpenFile::of(file) }.note(|| Operation::Truncate(size as usize));
    }
    done
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: `open` has opened it.
    let ours = unsafe { OpenFile::of(file) };
    if ours.fails(true).is_some() {
        ours.note(|| Operation::GivenUp);
        return ffi::SQLITE_IOERR_FSYNC;
    }
    if ours.disk.notes().lies {
        return ffi::SQLITE_OK;
    }
    // The notes are what counts: the system need not sync.
    let _ = flags;
    ours.note(|| Operation::Sync);
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, to: *mut ffi::sqlite3_int64) -> c_int {
    pass_on!(file, xFileSize, to)
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    pass_on!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    pass_on!(file, xUnlock, level)
}

unsafe extern "C" fn is_reserved(file: *mut ffi::sqlite3_file, to: *mut c_int) -> c_int {
    pass_on!(file, xCheckReservedLock, to)
}

unsafe extern "C" fn control(file: *mut ffi::sqlite3_file, what: c_int, to: *mut c_void) -> c_int {
    pass_on!(file, xFileControl, what, to)
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    pass_on!(file, xSectorSize)
}

unsafe extern "C" fn characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    pass_on!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn shared_map(
    file: *mut ffi::sqlite3_file,
    page: c_int,
    bytes: c_int,
    extend: c_int,
    to: *mut *mut c_void,
) -> c_int {
    pass_on!(file, xShmMap, page, bytes, extend, to)
}

unsafe extern "C" fn shared_lock(
    file: *mut ffi::sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    pass_on!(file, xShmLock, offset, count, flags)
}

unsafe extern "C" fn shared_barrier(file: *mut ffi::sqlite3_file) {
    // SAFETY: `open` has opened both files.
    unsafe {
        let real = OpenFile::of(file).real;
        if let Some(barrier) = (*(*real).pMethods).xShmBarrier {
            barrier(real);
        }
    }
}

unsafe extern "C" fn shared_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    pass_on!(file, xShmUnmap, delete)
}

/// Version 2: with shared memory, which the log needs, and without mapping the file,
/// of which no notes could be taken.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(is_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shared_map),
    xShmLock: Some(shared_lock),
    xShmBarrier: Some(shared_barrier),
    xShmUnmap: Some(shared_unmap),
    xFetch: None,
    xUnfetch: None,
};
