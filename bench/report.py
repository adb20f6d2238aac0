"""The table: every row that can be measured now, beside its target and what it is compared with."""

import statistics

# (section, [(figure, what it is, target or "")]). Targets are ratios and costs, never asserted.
ROWS = [
    ("Unix stream to durable, upstream down", [
        ("stream_events_per_s", "events/s", ""),
        ("stream_to_bare", "over the bare loop", ">= 1.3"),
        ("stream_to_bare_lz4", "over the bare loop with LZ4", ">= 0.75"),
        ("stream_to_bare_overlap", "over the bare loop with two threads", ""),
        ("stream_to_bare_lz4_overlap", "over the bare loop with LZ4, two threads", ""),
        ("stream_cpu_us", "CPU an event, us", "<= 1.6"),
        ("stream_ingest_cpu_us", "  of that, ingest thread", ""),
        ("stream_storage_cpu_us", "  of that, storage thread", ""),
        ("stream_longest_ack_gap_ms", "longest time without an ack, ms", ""),
        ("outage_written_per_raw", "bytes written per raw byte, outage", "<= 0.65"),
        ("spool_per_raw", "spool directory per raw byte", ""),
        ("stream_rss_peak_mib", "RSS, highest, MiB", ""),
        ("stream_bare_events_per_s", "bare loop, events/s", ""),
        ("stream_bare_lz4_events_per_s", "bare loop with LZ4, events/s", ""),
        ("stream_bare_overlap_events_per_s", "bare loop, two threads, events/s", ""),
        ("stream_bare_lz4_overlap_events_per_s", "bare loop with LZ4, two threads, events/s", ""),
        ("stream_bare_cpu_us", "bare loop, CPU an event, us", ""),
        ("stream_bare_lz4_cpu_us", "bare loop with LZ4, CPU an event, us", ""),
    ]),
    ("Unix datagram to durable, upstream down, one event each", [
        ("datagram_events_per_s", "events/s", ""),
        ("datagram_to_bare_overlap", "over the bare loop with two threads", ">= 1.0"),
        ("datagram_to_bare", "over the bare loop", ""),
        ("datagram_to_bare_lz4_overlap", "over the bare loop with LZ4, two threads", ""),
        ("datagram_cpu_us", "CPU an event, us", "<= 3.3"),
        ("datagram_ingest_cpu_us", "  of that, ingest thread", ""),
        ("datagram_storage_cpu_us", "  of that, storage thread", ""),
        ("datagram_written_per_raw", "bytes written per raw byte", ""),
        ("datagram_bare_overlap_events_per_s", "bare loop, two threads, events/s", ""),
        ("datagram_bare_overlap_cpu_us", "bare loop, two threads, CPU an event, us", ""),
    ]),
    ("UDP and HTTP to durable, upstream down", [
        ("udp_cpu_us", "UDP: CPU an event, us", ""),
        ("udp_kernel_drops_per_million", "UDP: dropped by the kernel, of a million", ""),
        *(row for name, connections in (("http", 8), ("http_128", 128)) for row in (
            (f"{name}_events_per_s", f"HTTP, {connections} connections: events/s", ""),
            (f"{name}_cpu_us", "  CPU an event, us", ""),
            (f"{name}_reply_p50_ms", "  request to reply, p50, ms", ""),
            (f"{name}_reply_p99_ms", "  p99", ""),
            (f"{name}_reply_p999_ms", "  p99.9", ""))),
    ]),
    ("Start with the backlog, after kill -9", [
        ("restart_ready_ms", "start to ready, ms", "<= 500"),
        ("restart_rss_mib", "RSS, MiB", ""),
    ]),
    ("Start with a full spool of 512 MiB that is damaged, after kill -9", [
        ("damaged_spool_mib", "spool directory, MiB", ""),
        *(row for name, label in (
            ("none", "not damaged"),
            ("log_cut", "the log cut in half"),
            ("log_middle", "a byte in the log"),
            ("log_gone", "no log"),
            ("table_block", "a byte in a table"),
            ("table_cut", "a table cut in half"),
            ("tables_cut", "every other table cut"),
            ("manifest_end", "the manifest cut in half"),
            ("manifest_middle", "a byte in the manifest"),
            ("manifest_gone", "no manifest"),
            ("current_gone", "no CURRENT"),
        ) for row in ((f"damaged_{name}_ready_ms", f"{label}: start to ready, ms", "<= 2000"),
                      (f"damaged_{name}_recovered", "  records that it counts then, %", ""))),
    ]),
    ("Delivery of the backlog by single POSTs", [
        ("deliver_cpu_us", "CPU an event, us", ""),
        ("deliver_forward_cpu_us", "  of that, forward thread", ""),
        ("deliver_storage_cpu_us", "  of that, storage thread", ""),
        ("deliver_whole_path_cpu_us", "with its reception: whole path, us", "<= 16"),
        ("deliver_events_per_s", "events/s", ""),
        ("deliver_rss_peak_mib", "RSS, highest, MiB", ""),
        ("deliver_spool_after_mib", "spool directory at the end, MiB", ""),
    ]),
    ("Delivery of a backlog in batches of 500, as lines", [
        ("batch_none_cpu_us", "not compressed: CPU an event, us", "<= 3"),
        ("batch_none_events_per_s", "  events/s", ""),
        ("batch_gzip_cpu_us", "gzip: CPU an event, us", ""),
        ("batch_gzip_events_per_s", "  events/s", ""),
        ("batch_zstd_cpu_us", "zstd: CPU an event, us", ""),
        ("batch_zstd_events_per_s", "  events/s", ""),
    ]),
    ("Delivery by single POSTs, 16 at a time on a connection against 1, 8 connections", [
        ("pipelined_near_ratio", "upstream beside it: events/s, ratio", ""),
        ("pipelined_near_1_events_per_s", "  1 at a time: events/s", ""),
        ("pipelined_near_16_events_per_s", "  16 at a time: events/s", ""),
        ("pipelined_near_1_cpu_us", "  1 at a time: CPU an event, us", ""),
        ("pipelined_near_16_cpu_us", "  16 at a time: CPU an event, us", ""),
        ("pipelined_far_ratio", "50 ms away: events/s, ratio", ""),
        ("pipelined_far_1_events_per_s", "  1 at a time: events/s", ""),
        ("pipelined_far_16_events_per_s", "  16 at a time: events/s", ""),
        ("pipelined_far_1_cpu_us", "  1 at a time: CPU an event, us", ""),
        ("pipelined_far_16_cpu_us", "  16 at a time: CPU an event, us", ""),
    ]),
    ("Delivery to an upstream 50 ms away, 1 % of its replies a 503, 8 connections", [
        ("goodput_fixed_to_ideal", "fixed: over connections / latency", ""),
        ("goodput_adaptive_to_ideal", "adaptive: over connections / latency", ""),
        ("goodput_fixed_events_per_s", "fixed: events/s", ""),
        ("goodput_adaptive_events_per_s", "adaptive: events/s", ""),
        ("goodput_fixed_requests_per_event", "fixed: requests an event", ""),
        ("goodput_adaptive_requests_per_event", "adaptive: requests an event", ""),
    ]),
    ("Drain without the network: read, decompress, acknowledge", [
        ("drain_events_per_s", "events/s", ">= 3 M"),
        ("drain_cpu_us", "CPU an event, us", ""),
    ]),
    ("Paced stream, one event a write", [
        ("paced_dead_durable_p50_ms", "10 k/s, upstream dead: write to ack p50, ms", "<= 3"),
        ("paced_dead_durable_p99_ms", "  the same, p99", ""),
        ("paced_dead_cpu_us", "  CPU an event, us", ""),
        ("paced_dead_written_per_raw", "  bytes written per raw byte", ""),
        ("paced_healthy_durable_p50_ms", "10 k/s, upstream healthy: write to ack p50, ms", "<= 3"),
        ("paced_healthy_durable_p99_ms", "  the same, p99", ""),
        ("paced_healthy_cpu_us", "  CPU an event, whole path, us", "<= 16"),
        ("paced_healthy_written_per_raw", "  bytes written per raw byte", "<= 0.40"),
        ("steady_cpu_us", "1 MiB/s, healthy: CPU an event, whole path, us", ""),
        ("steady_written_per_raw", "  bytes written per raw byte", "<= 0.40"),
        ("steady_durable_p50_ms", "  write to ack p50, ms", ""),
        ("steady_rss_peak_mib", "  RSS, highest, MiB", "<= 30"),
    ]),
    ("Idle", [
        ("idle_rss_mib", "RSS, MiB", "<= 10"),
        ("idle_anonymous_mib", "  of that not file pages", ""),
        ("idle_cpu_us_per_s", "CPU, us a second", ""),
        ("release_idle_rss_mib", "release build: RSS, MiB", "<= 10"),
        ("release_idle_anonymous_mib", "  of that not file pages", ""),
        ("release_stripped_mb", "release build: stripped binary, MB", "<= 15"),
    ]),
    ("The app's side: non-blocking datagram send at 10 k/s", [
        ("app_healthy_send_p50_us", "upstream healthy: p50, us", ""),
        ("app_healthy_send_p99_us", "  p99", ""),
        ("app_healthy_refused", "  refused (EAGAIN)", ""),
        ("app_dead_send_p50_us", "upstream dead: p50, us", ""),
        ("app_dead_send_p99_us", "  p99", "<= 20"),
        ("app_dead_refused", "  refused (EAGAIN)", ""),
        ("app_stalled_send_p50_us", "disk stalled: p50, us", ""),
        ("app_stalled_send_p99_us", "  p99", "<= 20"),
        ("app_stalled_refused", "  refused (EAGAIN)", ""),
        ("app_stalled_shed", "  shed by the daemon", ""),
    ]),
    ("--ids and --backlog", [
        ("large_stream_events_per_s", "to durable, events/s", ""),
        ("large_stream_cpu_us", "CPU an event, us", ""),
        ("large_stream_ingest_cpu_us", "  of that, ingest thread", ""),
        ("large_stream_storage_cpu_us", "  of that, storage thread", ""),
        ("large_outage_written_per_raw", "bytes written per raw byte", "<= 0.65"),
        ("large_stream_rss_peak_mib", "RSS, highest, MiB", "<= 64"),
        ("large_restart_ready_ms", "start to ready after kill -9, ms", "<= 500"),
        ("large_restart_rss_mib", "RSS after that, MiB", "<= 64"),
        ("large_ids_remembered", "ids remembered", ""),
        ("large_fresh_cpu_us", "then: a fresh id, CPU an event, us", ""),
        ("large_repeat_cpu_us", "  the same ids at once again", ""),
        ("large_oldest_cpu_us", "  the oldest ids again", ""),
        ("large_oldest_known_per_cent", "  of those still known, %", ""),
        ("large_rss_peak_after_mib", "RSS, highest, MiB", "<= 64"),
    ]),
]


def complete(figures):
    """Adds what follows from several phases."""
    if "deliver_cpu_us" in figures and "stream_cpu_us" in figures:
        figures["deliver_whole_path_cpu_us"] = figures["deliver_cpu_us"] + figures["stream_cpu_us"]
    return figures


def summary(runs):
    """Median, least and greatest of every figure."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: {"median": statistics.median(run[name] for run in runs),
                   "min": min(run[name] for run in runs), "max": max(run[name] for run in runs)}
            for name in names}


def number(value):
    """Three or more digits that matter."""
    if abs(value) >= 1000 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def print_table(result):
    """The figures as text."""
    machine = result["machine"]
    print(f"commit {result['commit']}, {result['events']} events, {result['runs']} runs, "
          f"spool on {result['file_system']}")
    print(f"{machine['cpus']} CPUs ({machine['processor']}), {machine['memory_gib']} GiB, "
          f"kernel {machine['kernel']}, load before {machine['load_before']}")
    figures = result["figures"]
    for section, rows in ROWS:
        present = [row for row in rows if row[0] in figures]
        if not present:
            continue
        print(f"\n{section:58}{'median':>12}{'least':>12}{'greatest':>12}  target")
        for name, label, target in present:
            cells = "".join(f"{number(figures[name][key]):>12}" for key in ("median", "min", "max"))
            print(f"  {label:56}{cells}  {target}")
