//! The suites that measure CPU per operation: `cpu`, `threads`, `commands`. Read next: `table.rs`.

use anyhow::Result;

use crate::compare::rig::{Cell, Contender, Data, Request, Rig};
use crate::compare::sample::{Sample, Spread};
use crate::compare::table::{Column, Row, Table};
use crate::compare::{Context, collections, progress};
use crate::peers::{Kind, Launch};
use larder_policy::svg::{Bars, Series};

/// What Larder's CPU per operation may be of another server's, one thread, GET:SET 10:1.
fn targets(pipeline: usize, many_keys: bool) -> Vec<(Kind, f64)> {
    let (null, valkey, redis) = match (pipeline, many_keys) {
        (1, _) => (1.08, 0.92, 0.90),
        (16, false) => (1.35, 0.52, 0.42),
        (16, true) => (1.5, 0.52, 0.42),
        (64, false) => (1.8, 0.28, 0.20),
        (64, true) => (2.1, 0.25, 0.20),
        _ => return Vec::new(),
    };
    vec![(Kind::Null, null), (Kind::Valkey, valkey), (Kind::Redis, redis)]
}

/// The columns of contenders.
pub(crate) fn columns(contenders: &[Contender]) -> Vec<Column> {
    let column = |contender: &Contender| Column {
        label: contender.label.clone(),
        kind: contender.server.peer.kind,
        version: contender.server.peer.version.clone(),
    };
    contenders.iter().map(column).collect()
}

/// GET:SET 10:1 by pipeline, number of keys and connections; one thread.
pub(crate) fn cpu(cx: &Context) -> Result<()> {
    let rig = &cx.rig;
    let mut table: Option<Table> = None;
    for (keys, cells) in [
        (1_000_000, &[(50, 1), (50, 16), (50, 64), (400, 1), (400, 16), (400, 64)][..]),
        (10_000_000, &[(50, 16), (50, 64)][..]),
    ] {
        let data = Data::plain(rig.scaled(keys), 64);
        let named = cells.iter().map(|&(connections, pipeline)| {
            let keys = larder_policy::svg::short(data.keys as f64);
            (format!("{keys} keys, {connections} connections, pipeline {pipeline}"), connections, pipeline)
        });
        let cells: Vec<_> = named.filter(|(name, ..)| cx.wants(name)).collect();
        if cells.is_empty() {
            continue;
        }
        let mut contenders = rig.start(&rig.launch_single(), |_| true)?;
        for contender in &mut contenders {
            progress(&format!("cpu: filling {} with {} keys", contender.label, data.keys))?;
            rig.fill(contender, &data)?;
        }
        let table = table.get_or_insert_with(|| Table {
            suite: "cpu",
            columns: columns(&contenders),
            rows: Vec::new(),
        });
        for (name, connections, pipeline) in cells {
            progress(&format!("cpu: {name}"))?;
            let cell = Cell {
                name: name.clone(),
                connections,
                pipeline,
                distribution: "uniform",
                data: data.clone(),
                request: Request::Mixed { gets: 10, sets: 1 },
            };
            let samples = rig.measure(&mut contenders, &cell)?;
            table.rows.push(Row { name, samples, targets: targets(pipeline, keys > 1_000_000) });
        }
    }
    let Some(table) = table else { return Ok(()) };
    let method = "One thread; GET:SET 10:1, 16 B keys, 64 B values, keys drawn uniformly. memcached speaks its text \
        protocol and by default takes 20 requests of a connection at a time.";
    report(cx, "CPU per operation", method, &table)
}

/// Writes a table of CPU figures: three tables, a chart, records.
pub(crate) fn report(cx: &Context, title: &str, method: &str, table: &Table) -> Result<()> {
    let chart_title = format!("{title}: server CPU for each operation");
    let svg = table.bars(&chart_title, Sample::cpu_ns_per_request);
    let chart = cx.write_chart(table.suite, &chart_title, &svg)?;
    let body = format!("{method}\n\n{}\n{}\n{}\n{chart}", table.ratios(), table.cpu(), table.throughput());
    cx.finish(table.suite, title, &body, &table.csv(&cx.stamp()))
}

/// The string commands of redis-benchmark's default list, and reads of large values; one thread.
pub(crate) fn commands(cx: &Context) -> Result<()> {
    const MSET: &str = "MSET __key__ __value__ __key__ __value__ __key__ __value__ __key__ __value__ __key__ __value__ \
        __key__ __value__ __key__ __value__ __key__ __value__ __key__ __value__ __key__ __value__";
    let rig = &cx.rig;
    let mut contenders =
        rig.start(&rig.launch_single(), |kind| !matches!(kind, Kind::Memcached | Kind::Null))?;
    let small = Data::plain(rig.scaled(100_000), 3);
    let counters = Data { prefix: "counter:", ..Data::plain(rig.scaled(100_000), 3) };
    let large = |prefix, keys, value_bytes| Data { prefix, ..Data::plain(keys, value_bytes) };
    let larges = [
        ("GET 1 KiB", large("kib:", 10_000, 1024)),
        ("GET 16 KiB", large("sixteen:", 1_000, 16 * 1024)),
        ("GET 1 MiB", large("mib:", 64, 1024 * 1024)),
    ];
    for contender in &mut contenders {
        for data in [&small].into_iter().chain(larges.iter().map(|(_, data)| data)) {
            rig.fill(contender, data)?;
        }
    }
    if let Some(null) = rig.peer(Kind::Null) {
        contenders.push(rig.start_one(null, &rig.launch_single(), null.label())?);
    }
    let mut cells: Vec<(String, Data, Request, usize)> = Vec::new();
    for pipeline in [1, 16] {
        for (name, data, request) in [
            ("PING_INLINE", &small, Request::Raw("PING\r\n")),
            ("PING_MBULK", &small, Request::Command("PING")),
            ("SET", &small, Request::Mixed { gets: 0, sets: 1 }),
            ("GET", &small, Request::Mixed { gets: 1, sets: 0 }),
            ("INCR", &counters, Request::Command("INCR __key__")),
            ("MSET (10 keys)", &small, Request::Command(MSET)),
        ] {
            cells.push((format!("{name}, pipeline {pipeline}"), data.clone(), request, pipeline));
        }
    }
    for (name, data) in &larges {
        cells.push((format!("{name}, pipeline 1"), data.clone(), Request::Mixed { gets: 1, sets: 0 }, 1));
    }
    let mut table = Table { suite: "commands", columns: columns(&contenders), rows: Vec::new() };
    for (name, data, request, pipeline) in cells.into_iter().filter(|(name, ..)| cx.wants(name)) {
        progress(&format!("commands: {name}"))?;
        restart_null(rig, &mut contenders, data.value_bytes)?;
        let cell =
            Cell { name: name.clone(), connections: 50, pipeline, distribution: "uniform", data, request };
        let samples = rig.measure(&mut contenders, &cell)?;
        table.rows.push(Row { name, samples, targets: vec![(Kind::Redis, 1.0)] });
    }
    let method = "One thread, 50 connections. The string tests of redis-benchmark's default list (3 B values, 100k \
        keys), and GET of large values.";
    report(cx, "Commands", method, &table)
}

/// The null server's reply has the size of the cell's values.
fn restart_null(rig: &Rig, contenders: &mut [Contender], value_bytes: usize) -> Result<()> {
    for contender in contenders.iter_mut().filter(|contender| contender.server.peer.kind == Kind::Null) {
        let launch = Launch { value_bytes, ..rig.launch_single() };
        *contender = rig.start_one(&contender.server.peer.clone(), &launch, contender.label.clone())?;
    }
    Ok(())
}

/// One thread against two, nothing bound to a core.
pub(crate) fn threads(cx: &Context) -> Result<()> {
    let rig = Rig { load_cores: cx.rig.all_cores.clone(), ..cx.rig.clone() };
    rig.load_cores.bind_this_thread()?;
    let result = threads_floating(cx, &rig);
    cx.rig.load_cores.bind_this_thread()?;
    result
}

fn threads_floating(cx: &Context, rig: &Rig) -> Result<()> {
    let data = Data::plain(rig.scaled(1_000_000), 64);
    let mut contenders = Vec::new();
    for peer in &rig.peers {
        for threads in [1, 2] {
            let launch = Launch { threads, cores: rig.all_cores.clone(), ..rig.launch_single() };
            let label = format!("{}, {threads} thread{}", peer.label(), if threads == 1 { "" } else { "s" });
            let mut contender = rig.start_one(peer, &launch, label)?;
            rig.fill(&mut contender, &data)?;
            contenders.push(contender);
        }
    }
    let mut table = Table { suite: "threads", columns: columns(&contenders), rows: Vec::new() };
    for (name, distribution, pipeline, request) in thread_cells() {
        if !cx.wants(name) {
            continue;
        }
        progress(&format!("threads: {name}"))?;
        let data = match request {
            Request::Round(_) => Data { prefix: "", key_bytes: 10, ..Data::plain(6_400_000_000, 8) },
            _ => data.clone(),
        };
        let name = name.to_owned();
        let cell = Cell { name: name.clone(), connections: 48, pipeline, distribution, data, request };
        let samples = rig.measure(&mut contenders, &cell)?;
        table.rows.push(Row { name, samples, targets: Vec::new() });
    }
    report_threads(cx, &table)
}

/// Name, distribution, pipeline and requests of each row.
fn thread_cells() -> [(&'static str, &'static str, usize, Request); 9] {
    let mixed = Request::Mixed { gets: 10, sets: 1 };
    [
        ("uniform, pipeline 1", "uniform", 1, mixed.clone()),
        ("uniform, pipeline 16", "uniform", 16, mixed.clone()),
        ("uniform, pipeline 64", "uniform", 64, mixed.clone()),
        ("Zipf 0.99, pipeline 1", "zipf", 1, mixed.clone()),
        ("Zipf 0.99, pipeline 16", "zipf", 16, mixed.clone()),
        ("Zipf 0.99, pipeline 64", "zipf", 64, mixed),
        ("one hot key, GET only, pipeline 16", "single", 16, Request::Mixed { gets: 1, sets: 0 }),
        ("MGET of 10 keys, pipeline 16", "uniform", 16, Request::Command(MGET)),
        ("MULTI of 10 SETs, pipeline 24", "uniform", 24, Request::Round(collections::MULTI_OF_SETS)),
    ]
}

const MGET: &str = "MGET __key__ __key__ __key__ __key__ __key__ __key__ __key__ __key__ __key__ __key__";

fn report_threads(cx: &Context, table: &Table) -> Result<()> {
    let title = "Two threads";
    let chart_title = "Server CPU for each operation, two threads / one";
    let svg = thread_chart(table, chart_title);
    let chart = cx.write_chart(table.suite, chart_title, &svg)?;
    let method = "Server and load generator float over all cores of the machine: with two cores and one of them busy \
        with the load, throughput with two threads says little; CPU per operation says what a second thread costs. \
        GET:SET 10:1 unless a row says otherwise, 1M keys, 64 B values, 48 connections. Larder's aims: CPU at most 1.15 of one thread's (hot key 2.0); throughput at least 1.7 where \
        the load is not the limit. What the null server's second thread costs is what this kernel and this machine take \
        for two threads on the same cores as the load.";
    let cpu = thread_ratios(table, "CPU per operation, two threads / one", Sample::cpu_ns_per_request);
    let rate = thread_ratios(table, "operations a second, two threads / one", Sample::per_second);
    let body = format!("{method}\n\n{cpu}\n{rate}\n{}\n{}\n{chart}", table.cpu(), table.throughput());
    cx.finish(table.suite, title, &body, &table.csv(&cx.stamp()))
}

/// The ratios of [`thread_ratios`] as bars.
fn thread_chart(table: &Table, title: &str) -> String {
    let series = table.columns.iter().enumerate().step_by(2).map(|(index, column)| Series {
        name: format!("{} {}", column.kind.name(), column.version),
        values: table
            .rows
            .iter()
            .map(|row| {
                let (one, two) = row.samples.get(index).zip(row.samples.get(index + 1))?;
                Spread::of_ratios(two, one, Sample::cpu_ns_per_request).map(|spread| spread.median)
            })
            .collect(),
    });
    let groups = table.rows.iter().map(|row| row.name.clone()).collect();
    Bars { title: title.to_owned(), unit: "ratio".to_owned(), groups, series: series.collect() }.svg()
}

/// Each server with two threads against itself with one; Larder's limits beside its own.
fn thread_ratios(table: &Table, heading: &str, measure: fn(&Sample) -> f64) -> String {
    let pairs: Vec<usize> = (0..table.columns.len()).step_by(2).collect();
    let labels: Vec<String> = pairs
        .iter()
        .filter_map(|&index| table.columns.get(index))
        .map(|column| format!("{} {}", column.kind.name(), column.version))
        .collect();
    let mut text = format!("| {heading} | {} |\n|---|{}\n", labels.join(" | "), "---|".repeat(labels.len()));
    for row in &table.rows {
        text.push_str(&format!("| {} |", row.name));
        for &index in &pairs {
            let (one, two) = (row.samples.get(index), row.samples.get(index + 1));
            let spread = one.zip(two).and_then(|(one, two)| Spread::of_ratios(two, one, measure));
            text.push_str(&format!(" {} |", spread.map_or("-".to_owned(), |spread| spread.text(2))));
        }
        text.push('\n');
    }
    text
}
