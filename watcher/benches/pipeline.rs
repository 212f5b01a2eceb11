//! Events a second through decode and pipeline on one core, by what the stream is made of, and the memory that 100
//! million of them take. `cargo bench -p watcher --bench pipeline [-- MILLIONS]`; one line of result per stream.

use std::{hint::black_box, time::Instant};

use watcher::{
    output::Output,
    pipeline::{Pipeline, PipelineConfig},
    record::{
        Input, ProcessInfo, decode,
        sample::{self, Dice, OpenSample},
    },
    time::Time,
};

/// Below this the benchmark fails: what one core has to take.
const REQUIRED_PER_SECOND: f64 = 500_000.0;

/// A stream: the n-th record, and whether its process is new.
type Stream = Box<dyn FnMut(u64) -> Vec<u8>>;

fn main() {
    let millions = std::env::args().skip(1).find_map(|arg| arg.parse::<u64>().ok()).unwrap_or(100);
    let (quick, long) = (2_000_000, millions * 1_000_000);
    let mut slow = false;
    slow |= measure("counts of 1,000 known causes", quick, counts());
    slow |= measure("first sightings of 1,000 causes by 10,000 keys", quick, sightings(10_000, 1_000));
    // Told for its cost: each record opens a finding, which no site can make happen at such a rate.
    measure("first sightings, each of a new cause", quick, sightings(u64::MAX, u64::MAX));
    slow |= measure("harmless .htaccess in 10,000 directories", quick, htaccess());
    slow |= measure("mixed, 10 % first sightings", long, mixed());
    if slow {
        eprintln!("slower than {REQUIRED_PER_SECOND} events a second");
        std::process::exit(1);
    }
}

fn measure(name: &str, events: u64, mut stream: Stream) -> bool {
    const BATCH: u64 = 4_096;
    let mut pipeline = Pipeline::new(PipelineConfig::default());
    let mut out: Vec<Output> = Vec::new();
    let (mut done, mut spent, mut outputs) = (0u64, 0.0, 0usize);
    let mut settled_kib = 0;
    while done < events {
        // Made ahead: the kernel does this elsewhere.
        let batch: Vec<Vec<u8>> = (done..events.min(done + BATCH)).map(&mut stream).collect();
        let start = Instant::now();
        for (at, bytes) in batch.iter().enumerate() {
            let now = Time(1_000_000_000 + (done + at as u64) * 1_000);
            let input = decode(black_box(bytes)).map_or(Input::Undecodable, Input::Record);
            if let Input::Record(record) = &input
                && let Some(key) = pipeline.wants(record)
            {
                pipeline.handle(Input::Process(key, ProcessInfo::default()), now, &mut out);
            }
            pipeline.handle(input, now, &mut out);
        }
        spent += start.elapsed().as_secs_f64();
        done += batch.len() as u64;
        outputs += out.len();
        out.clear();
        if settled_kib == 0 && done >= events / 10 {
            settled_kib = resident_kib();
        }
    }
    let rate = done as f64 / spent;
    let resident = resident_kib();
    println!(
        "{name}: {done} events, {rate:.0} events/s, {outputs} outputs, resident {settled_kib} KiB after a tenth, \
         {resident} KiB at the end"
    );
    rate < REQUIRED_PER_SECOND
}

fn name(cause: u64) -> String {
    format!("/var/www/site/releases/current/wp-includes/class-number-{cause}.php")
}

fn counts() -> Stream {
    let mut counts = vec![0u64; 1_000];
    Box::new(move |n| {
        let at = (n % 1_000) as usize;
        counts[at] += 7;
        if n < 1_000 {
            return OpenSample::new(name(n)).bytes();
        }
        sample::count(sample::key(name(at as u64).as_bytes()), n, counts[at] + 1)
    })
}

fn sightings(keys: u64, causes: u64) -> Stream {
    Box::new(move |n| {
        let mut sample = OpenSample::new(name(n % causes)).time(n);
        sample.record.key.lo = (n % keys).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        sample.record.count = n / keys + 1;
        sample.record.pid = 1_000 + (n % 300) as u32;
        sample.bytes()
    })
}

fn htaccess() -> Stream {
    Box::new(|n| {
        let name = format!("/var/www/site/{}/.htaccess", n % 10_000);
        OpenSample::new(name).open_flags(0o2_000_000).time(n).count(n / 10_000 + 1).bytes()
    })
}

fn mixed() -> Stream {
    let mut dice = Dice::new(42);
    let mut counts = vec![0u64; 16_384];
    Box::new(move |n| {
        if dice.below(10) == 0 {
            // Mostly new: more causes than are remembered.
            return OpenSample::new(name(dice.roll() % 10_000_000)).time(n).bytes();
        }
        let at = dice.below(counts.len());
        counts[at] += 1 + dice.below(50) as u64;
        let key = sample::key(&(at as u64).to_le_bytes());
        if counts[at] <= 50 {
            let mut first = OpenSample::new(name(at as u64)).time(n).count(counts[at]);
            first.record.key = key;
            return first.bytes();
        }
        sample::count(key, n, counts[at])
    })
}

/// Resident memory of this process (`statm` counts pages of 4 KiB on the machines that this runs on).
fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4
}
