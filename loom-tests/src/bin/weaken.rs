//! Weakens each site that orders memory, one at a time, and demands that some model fails. `scripts/weaken` calls it:
//! `weaken STATE PATTERN PROGRAM...`, where the programs hold the models, and STATE is a folder.
//!
//! A site goes to the models that reach it, the quickest first, and at preemption bound 2 before 3 where that is quicker,
//! until one fails. What each model said to each site is kept in STATE under the program's digest, so that a run that was
//! interrupted goes on where it was, and a change of one model repeats only what it can change.

#[path = "../../../tests/laws/sites.rs"]
mod sites;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hasher;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Sites that no model can catch: `KEY reason`.
const ALLOWED: &str = "loom-tests/weaken-allow.txt";
/// The bound of the proofs, and the one below, which has fewer schedules.
const BOUNDS: [u32; 2] = [3, 2];
/// A model that takes less than this is not tried at the lower bound first.
const QUICK: Duration = Duration::from_secs(1);
/// A site for which there is a reason why none can fail goes only to models that take less than this.
const SHORT: Duration = Duration::from_secs(3);
/// How much quicker the lower bound is, about.
const GAIN: u32 = 8;

/// One model: a test of a program.
struct Model {
    program: PathBuf,
    digest: String,
    test: String,
    takes: Duration,
    /// `FILE:LINE:COLUMN` of what it reaches.
    sites: BTreeSet<String>,
}

impl Model {
    /// How long a weakened run may take.
    fn limit(&self) -> Duration {
        Duration::from_secs(30) + self.takes * 4
    }

    fn command(&self, limit: Duration) -> Command {
        let mut command = Command::new("timeout");
        command.arg(format!("{}", limit.as_secs())).arg(&self.program).args(["--exact", &self.test, "--nocapture"]);
        command.env("RUST_BACKTRACE", "0");
        command
    }
}

/// What a model said to a weakened site.
#[derive(Clone)]
enum Said {
    /// It failed, with these words.
    Caught(String),
    Passed,
    TimedOut,
}

/// What was said so far, by digest, test, bound and site.
struct Memory {
    said: Mutex<HashMap<String, Said>>,
    file: Mutex<std::fs::File>,
}

impl Memory {
    fn open(path: &Path) -> Memory {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        let said = lines.map(|(name, said)| {
            let said = match said.split_once(' ') {
                Some(("caught", words)) => Said::Caught(words.to_owned()),
                _ => Said::Passed,
            };
            (name.to_owned(), said)
        });
        let said = Mutex::new(said.collect());
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a writable state");
        Memory { said, file: Mutex::new(file) }
    }

    fn recall(&self, name: &str) -> Option<Said> {
        self.said.lock().expect("no panic").get(name).cloned()
    }

    /// Time-outs are not kept: the machine may have been busy.
    fn keep(&self, name: &str, said: &Said) {
        let word = match said {
            Said::Caught(words) => format!("caught {words}"),
            Said::Passed => "passed ".to_owned(),
            Said::TimedOut => return,
        };
        writeln!(self.file.lock().expect("no panic"), "{name}\t{word}").expect("a writable state");
    }
}

/// Runs a model unweakened at the lower bound, or recalls how that went: how long it takes, and what it reaches.
fn model(state: &Path, program: &Path, digest: &str, test: &str) -> Model {
    let [sites_file, time_file] = ["sites", "time"].map(|what| state.join(format!("{digest}.{test}.{what}")));
    let mut model = Model {
        program: program.to_owned(),
        digest: digest.to_owned(),
        test: test.to_owned(),
        takes: Duration::ZERO,
        sites: BTreeSet::new(),
    };
    if !time_file.exists() {
        let _ = std::fs::remove_file(&sites_file);
        let start = Instant::now();
        let mut command = model.command(Duration::from_secs(3600));
        command.env("LAYSHAFT_SITES", &sites_file).env("LOOM_MAX_PREEMPTIONS", BOUNDS[1].to_string());
        assert!(command.output().expect("a program").status.success(), "{test} fails as it is");
        std::fs::write(&time_file, start.elapsed().as_millis().to_string()).expect("a writable state");
    }
    let millis = std::fs::read_to_string(&time_file).expect("written").trim().parse().expect("a number");
    model.takes = Duration::from_millis(millis) * GAIN;
    model.sites = std::fs::read_to_string(&sites_file).unwrap_or_default().lines().map(str::to_owned).collect();
    model
}

fn models(state: &Path, programs: &[PathBuf]) -> Vec<Model> {
    let mut found = Vec::new();
    for program in programs {
        let mut hasher = DefaultHasher::new();
        hasher.write(&std::fs::read(program).expect("a program"));
        let digest = format!("{:016x}", hasher.finish());
        let list = Command::new(program).args(["--list", "--format=terse"]).output().expect("a program").stdout;
        let list = String::from_utf8_lossy(&list).into_owned();
        let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
        found.extend(tests.map(|test| (program, digest.clone(), test.to_owned())));
    }
    in_parallel(&found, |(program, digest, test)| model(state, program, digest, test))
}

/// Calls `f` for each item, `WEAKEN_JOBS` at a time (default 2).
fn in_parallel<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let jobs: usize = std::env::var("WEAKEN_JOBS").map_or(2, |n| n.parse().expect("WEAKEN_JOBS=NUMBER"));
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = f(item);
            results.lock().expect("no panic").push(result);
        }
    };
    std::thread::scope(|scope| (0..jobs).for_each(|_| _ = scope.spawn(work)));
    results.into_inner().expect("no panic")
}

fn ask(model: &Model, bound: u32, place: &str, memory: &Memory) -> Said {
    let name = format!("{} {} {bound} {place}", model.digest, model.test);
    if let Some(said) = memory.recall(&name) {
        return said;
    }
    let mut command = model.command(model.limit());
    command.env("LAYSHAFT_WEAKEN", place).env("LOOM_MAX_PREEMPTIONS", bound.to_string());
    let output = command.output().expect("coreutils' timeout");
    let said = match output.status.code() {
        Some(0) => Said::Passed,
        Some(124) => Said::TimedOut,
        Some(code @ 125..=127) => panic!("timeout ended with {code}"),
        _ => {
            let text = String::from_utf8_lossy(&output.stderr);
            let words = text.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
            Said::Caught(words.unwrap_or("crashed").trim().to_owned())
        }
    };
    memory.keep(&name, &said);
    said
}

/// The verdict on a site, and who gave it or how many models were asked.
fn judge(place: &str, longest: Duration, models: &[Model], memory: &Memory) -> (&'static str, String) {
    let mut reach: Vec<&Model> = models.iter().filter(|model| model.sites.contains(place)).collect();
    let all = reach.len();
    reach.retain(|model| model.takes <= longest);
    if all == 0 {
        return ("UNREACHED", "no model comes there".to_owned());
    }
    let bounds = |model: &&Model| if model.takes < QUICK { &BOUNDS[..1] } else { &BOUNDS[..] };
    let mut runs: Vec<(Duration, u32, &Model)> = Vec::new();
    for model in &reach {
        let cost = |bound| if bound == BOUNDS[0] { model.takes } else { model.takes / GAIN };
        runs.extend(bounds(model).iter().map(|&bound| (cost(bound), bound, *model)));
    }
    runs.sort_by_key(|run| run.0);
    let mut late: Vec<String> = Vec::new();
    for (_, bound, model) in runs {
        if late.contains(&model.test) {
            continue;
        }
        match ask(model, bound, place, memory) {
            Said::Caught(words) => return ("caught", format!("by {}: {words}", model.test)),
            Said::TimedOut => late.push(model.test.clone()),
            Said::Passed => {}
        }
    }
    if late.is_empty() {
        ("SURVIVED", format!("{} of {all} models", reach.len()))
    } else {
        ("TIMED OUT", late.join(", "))
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let state = PathBuf::from(arguments.next().expect("a folder"));
    let pattern = arguments.next().expect("a pattern");
    let programs: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    std::fs::create_dir_all(&state).expect("a writable state");
    let allowed = std::fs::read_to_string(ALLOWED).expect("the list of allowed sites");
    let allowed: BTreeSet<&str> = allowed.lines().filter_map(|line| line.split(' ').next()).collect();

    let all = all_sites();
    let models = models(&state, &programs);
    let known: BTreeSet<&str> = all.iter().map(|site| &*site.place).collect();
    for place in models.iter().flat_map(|model| &model.sites) {
        let is_unknown = !place.starts_with("src/model/") && !known.contains(&**place);
        assert!(!is_unknown, "{place} orders memory, and was not found by reading the source");
    }

    let wanted: Vec<&Place> = all.iter().filter(|site| pattern.is_empty() || matches(&pattern, &site.key)).collect();
    let everything = std::env::var_os("WEAKEN_ALL").is_some();
    let memory = Memory::open(&state.join("said"));
    let verdicts = in_parallel(&wanted, |site| {
        let is_allowed = allowed.contains(&*site.key);
        let longest = if is_allowed && !everything { SHORT } else { Duration::MAX };
        let (verdict, why) = judge(&site.place, longest, &models, &memory);
        let verdict = match (verdict, is_allowed) {
            ("caught", true) => "NOT NEEDED",
            ("caught", false) => "caught",
            (_, true) => "allowed",
            (other, false) => other,
        };
        println!("{verdict:<10} {} ({}) {why}", site.key, site.place);
        verdict
    });
    let count = |verdict| verdicts.iter().filter(|v| **v == verdict).count();
    println!(
        "{} sites and {} models: {} caught, {} allowed, {} survived, {} timed out, {} reached by no model, {} entries not needed",
        wanted.len(),
        models.len(),
        count("caught"),
        count("allowed"),
        count("SURVIVED"),
        count("TIMED OUT"),
        count("UNREACHED"),
        count("NOT NEEDED")
    );
    if count("caught") + count("allowed") == wanted.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A site, and where it is now: `FILE:LINE:COLUMN`.
struct Place {
    key: String,
    place: String,
}

/// The sites of the library, in order.
fn all_sites() -> Vec<Place> {
    let mut files = Vec::new();
    visit(Path::new("src"), &mut files);
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let path = path.to_string_lossy();
        let place = |site: &sites::Site| format!("{path}:{}:{}", site.line, site.column);
        all.extend(
            sites::ordering_sites(&path, &text).into_iter().map(|site| Place { place: place(&site), key: site.key }),
        );
    }
    all
}

/// Rust files below a folder, but for what stands in for the hardware and for the models' own.
fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
    if [Path::new("src/sync"), Path::new("src/model")].contains(&folder) {
        return;
    }
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            visit(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Whether any of the alternatives, separated by `|`, is in the name.
fn matches(pattern: &str, name: &str) -> bool {
    pattern.split('|').any(|part| name.contains(part))
}
