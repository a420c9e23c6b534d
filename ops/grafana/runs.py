"""The page that tells whether the nightly runs are fine, and if not, why not."""

from ops.grafana.model import (
    RATE,
    Color,
    Dashboard,
    Kind,
    Panel,
    Query,
    Row,
    Step,
    Unit,
    Variable,
    flows,
    quantile,
    query,
    rate,
)

_SUCCESS = 'max by (name) (montemq_run_last_success_timestamp_seconds{name=~"$name"})'
_START = 'max by (name) (montemq_run_last_start_timestamp_seconds{name=~"$name"})'
_OF_RUN = '{run=~"$run"}'
_MERGED = f"max by (run) (montemq_run_merged_samples{_OF_RUN})"
_EXPECTED = f"max by (run) (montemq_run_expected_samples{_OF_RUN})"
_SPEED = f"max by (run) (deriv(montemq_run_merged_samples{_OF_RUN}[{RATE}]))"
_ERROR = f"max by (run) (montemq_run_relative_error{_OF_RUN})"
_TARGET = f"max by (run) (montemq_run_target_relative_error{_OF_RUN})"

DASHBOARD = Dashboard(
    uid="montemq-runs",
    title="montemq / Runs",
    description="Whether the nightly runs are fine, and if not, why not.",
    variables=(
        Variable("name", "Name", "montemq_run_last_start_timestamp_seconds"),
        Variable("run", "Run", "montemq_run_merged_samples"),
    ),
    rows=(
        Row(
            "Are the nightly runs fine?",
            ("RunMissed",),
            (
                Panel(
                    "Time since the last success",
                    "By name, the template of the runs' ids. Of a name that is not here, none "
                    "has finished yet.",
                    query(f"time() - {_SUCCESS}", "{{name}}"),
                    unit=Unit.SECONDS,
                    kind=Kind.BARS,
                ),
                Panel(
                    "The same in slots",
                    "In hours for {hour}, days for {date}, weeks for {week}. RunMissed fires "
                    "above 125 %.",
                    query(
                        f"(time() - {_SUCCESS}) / on (name) montemq:run_period:seconds",
                        "{{name}}",
                    ),
                    unit=Unit.SHARE,
                    kind=Kind.BARS,
                    steps=(Step(1.0, Color.DOUBTFUL), Step(1.25, Color.BAD)),
                ),
                Panel(
                    "Time since the last start",
                    "By name. If it is as long as the time since the last success, the run has "
                    "been started; if both are long, nobody started one.",
                    query(f"time() - {_START}", "{{name}}"),
                    unit=Unit.SECONDS,
                    kind=Kind.BARS,
                ),
                Panel(
                    "Runs by state",
                    "All runs that the store knows.",
                    query("sum by (state) (montemq_runs)", "{{state}}"),
                ),
                Panel(
                    "Alerts that fire",
                    "Empty when all is well.",
                    query(
                        'sum by (alertname) (ALERTS{alertstate="firing"})',
                        "{{alertname}}",
                    ),
                    width=16,
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Do they get on, and if not, why?",
            ("RunStalled", "NoConsumers", "PublisherBlocked"),
            (
                Panel(
                    "Progress",
                    "Samples that count, of those that the run is expected to take.",
                    query(f"{_MERGED} / {_EXPECTED}", "{{run}}"),
                    unit=Unit.SHARE,
                ),
                Panel(
                    "Speed",
                    "Samples per second that came to count. RunStalled fires after 15 minutes "
                    "at 0.",
                    query(_SPEED, "{{run}}"),
                    unit=Unit.PER_SECOND,
                ),
                Panel(
                    "Time left",
                    "At the speed of now; nothing for a run that stands still.",
                    query(f"({_EXPECTED} - {_MERGED}) / ({_SPEED} > 0)", "{{run}}"),
                    unit=Unit.SECONDS,
                ),
                Panel(
                    "Runs and slots",
                    "Runs that go on in each pool, and the slots that live there.",
                    (
                        Query("sum by (pool) (montemq_active_runs)", "runs in {{pool}}"),
                        Query("sum by (pool) (montemq_live_slots)", "slots in {{pool}}"),
                    ),
                ),
                Panel(
                    "Age",
                    "Time since the run was declared for the first time.",
                    query(
                        f"time() - max by (run) (montemq_run_created_timestamp_seconds{_OF_RUN})",
                        "{{run}}",
                    ),
                    unit=Unit.SECONDS,
                ),
                Panel(
                    "Blocks to come",
                    "Blocks that active runs are expected to need still, by model.",
                    query("sum by (model) (montemq_outstanding_blocks)", "{{model}}"),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Does somebody schedule them?",
            ("RunStalled", "UnroutableMessages", "PublisherBlocked"),
            (
                Panel(
                    "Producers",
                    "Producers that schedule runs: leading ones are heard; silent ones are dead, "
                    "cut off or blocked.",
                    query("sum by (state) (montemq_producer_leaders)", "{{state}}"),
                    stacked=True,
                ),
                Panel(
                    "Runs that are scheduled",
                    "By the host of the producer; as many as go on, or some wait for one.",
                    query("sum by (host) (montemq_producer_runs)", "{{host}}"),
                    stacked=True,
                ),
                Panel(
                    "Time since the last word of producers",
                    "By host.",
                    query(
                        "time() - max by (host) (montemq_producer_last_seen_timestamp_seconds)",
                        "{{host}}",
                    ),
                    unit=Unit.SECONDS,
                    kind=Kind.BARS,
                    steps=(Step(8, Color.DOUBTFUL), Step(60, Color.BAD)),
                ),
                Panel(
                    "Windows",
                    "Chunks that may be issued and not merged, those that are, and those that "
                    "the broker has not confirmed.",
                    (
                        Query("sum(montemq_producer_window_chunks)", "window"),
                        Query("sum(montemq_producer_outstanding_chunks)", "issued"),
                        Query("sum(montemq_producer_unconfirmed_chunks)", "unconfirmed"),
                    ),
                ),
                Panel(
                    "Chunks published",
                    "Per second; returned ones fit no queue.",
                    (
                        Query(rate("montemq_producer_chunks_published_total"), "published"),
                        Query(rate("montemq_producer_chunks_returned_total"), "returned"),
                    ),
                    unit=Unit.PER_SECOND,
                ),
                flows(
                    "Chunks issued again",
                    "Per second, by reason: late ones are copies of slow or lost chunks.",
                    "montemq_producer_chunks_reissued_total",
                    "reason",
                ),
                Panel(
                    "Confirm time",
                    "How long the broker took to confirm a chunk.",
                    (
                        Query(quantile(0.5, "montemq_producer_confirm_seconds"), "half"),
                        Query(quantile(0.9, "montemq_producer_confirm_seconds"), "90 %"),
                    ),
                    unit=Unit.SECONDS,
                    width=12,
                ),
                Panel(
                    "Connections blocked",
                    "How often the broker blocked a producer, per second, told once that was over.",
                    query(rate("montemq_producer_blockings_total"), "blocked"),
                    unit=Unit.PER_SECOND,
                    width=12,
                ),
            ),
        ),
        Row(
            "How good are the estimates?",
            ("RunStalled",),
            (
                Panel(
                    "Relative error",
                    "Standard error divided by the mean, of the first output of the first cell.",
                    query(_ERROR, "{{run}}"),
                    unit=Unit.SHARE,
                    width=12,
                ),
                Panel(
                    "Error and what it shall be",
                    "Relative error divided by the one to stop at, of runs that have one: 1 is "
                    "the goal.",
                    query(f"{_ERROR} / {_TARGET}", "{{run}}"),
                    steps=(Step(1.0, Color.DOUBTFUL),),
                    width=12,
                ),
            ),
        ),
        Row(
            "What goes wrong?",
            ("DeadLetters", "ManyDuplicates"),
            (
                flows(
                    "Failures",
                    "Chunks that failed, by kind. The runs' states and errors name the first one.",
                    "montemq_failures_total",
                    "kind",
                ),
                flows(
                    "What became of the results",
                    "merged is work that counts, overshoot and late are the price of not "
                    "waiting; duplicate and overlap were computed twice.",
                    "montemq_results_total",
                    "outcome",
                ),
                Panel(
                    "Share of duplicates",
                    "Of the results of the last 15 minutes. ManyDuplicates fires above 20 % where "
                    "they are more than ten.",
                    query("montemq:duplicate_results:ratio_rate15m or vector(0)", "duplicates"),
                    unit=Unit.SHARE,
                    steps=(Step(0.2, Color.BAD),),
                ),
            ),
        ),
    ),
)
