//! Stores in memory, with failures where a test wants them.

use super::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;

/// Objects by name. Each request asks `fault` what goes wrong with it.
pub(crate) struct MemoryObjects {
    objects: Mutex<BTreeMap<String, (u64, Bytes)>>,
    versions: AtomicU64,
    fault: Box<dyn Fn(u64) -> Fault + Send + Sync>,
    requests: AtomicU64,
    /// Bytes read, and the most in one request.
    pub(crate) read: Mutex<Vec<Range<u64>>>,
    hung: Mutex<Vec<Box<dyn Send>>>,
    pub(crate) page: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Away,
    Refused,
    /// Fewer bytes than asked for.
    Short,
    /// No answer, ever.
    Hang,
    /// The request is dropped.
    Lost,
}

impl fmt::Debug for MemoryObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryObjects")
    }
}

impl MemoryObjects {
    pub(crate) fn new(fault: impl Fn(u64) -> Fault + Send + Sync + 'static) -> Arc<MemoryObjects> {
        Arc::new(MemoryObjects {
            objects: Mutex::default(),
            versions: AtomicU64::new(0),
            fault: Box::new(fault),
            requests: AtomicU64::new(0),
            read: Mutex::default(),
            hung: Mutex::default(),
            page: 3,
        })
    }

    pub(crate) fn put(&self, name: &str, bytes: impl Into<Bytes>) {
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        self.objects.lock().expect("unpoisoned").insert(name.to_owned(), (version, bytes.into()));
    }

    pub(crate) fn remove(&self, name: &str) {
        self.objects.lock().expect("unpoisoned").remove(name);
    }

    pub(crate) fn request_count(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn answer<T: Send + 'static>(&self, whole: impl FnOnce(Fault) -> Result<T, ObjectError>) -> Answer<T> {
        let (send, answer) = std::sync::mpsc::channel();
        match (self.fault)(self.requests.fetch_add(1, Ordering::Relaxed)) {
            Fault::Hang => self.hung.lock().expect("unpoisoned").push(Box::new(send)),
            Fault::Lost => {}
            Fault::Away => give(&send, Err(ObjectError::new(ObjectErrorKind::Unavailable, "the store is away"))),
            Fault::Refused => give(&send, Err(ObjectError::new(ObjectErrorKind::Refused, "no permission"))),
            fault @ (Fault::None | Fault::Short) => give(&send, whole(fault)),
        }
        answer
    }

    fn object(&self, name: &str) -> Result<(Object, Bytes), ObjectError> {
        let objects = self.objects.lock().expect("unpoisoned");
        let found = objects.get(name).map(|(version, bytes)| (object(name, *version, bytes), bytes.clone()));
        found.ok_or_else(|| ObjectError::new(ObjectErrorKind::Gone, format!("there is no {name}")))
    }
}

fn give<T>(send: &Sender<Result<T, ObjectError>>, answer: Result<T, ObjectError>) {
    send.send(answer).expect("the other end is not given away yet");
}

fn object(name: &str, version: u64, bytes: &Bytes) -> Object {
    let version = Some(format!("\"{version}\"").into());
    Object { name: name.into(), size_bytes: bytes.len() as u64, version, modified: None }
}

impl ObjectFiles for MemoryObjects {
    fn list(&self, prefix: &str, depth: Depth, next: Option<&str>) -> Answer<Page> {
        self.answer(|_| {
            let objects = self.objects.lock().expect("unpoisoned");
            let matching = objects.iter().filter(|(name, _)| {
                let rest = name.strip_prefix(prefix);
                rest.is_some_and(|rest| depth == Depth::Any || !rest.contains('/'))
                    && next.is_none_or(|next| name.as_str() > next)
            });
            let page: Vec<Object> =
                matching.take(self.page).map(|(name, (version, bytes))| object(name, *version, bytes)).collect();
            let next = (page.len() == self.page).then(|| page[page.len() - 1].name.to_string());
            Ok(Page { objects: page, odd_names: Vec::new(), next })
        })
    }

    fn stat(&self, name: &str) -> Answer<Object> {
        self.answer(|_| self.object(name).map(|found| found.0))
    }

    fn read(&self, object: &Object, range: Range<u64>) -> Answer<Bytes> {
        assert!(range.start < range.end && range.end <= object.size_bytes, "{range:?} of {object:?}");
        self.read.lock().expect("unpoisoned").push(range.clone());
        self.answer(|fault| {
            let (now, bytes) = self.object(&object.name)?;
            if now.version != object.version {
                return Err(ObjectError::new(ObjectErrorKind::Changed, "it was replaced while it was read"));
            }
            let less = u64::from(fault == Fault::Short);
            Ok(bytes.slice(range.start as usize..(range.end - less) as usize))
        })
    }
}
