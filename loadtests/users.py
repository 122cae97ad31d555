"""
Locust's side: users, shapes, statistics, page, and the way of records from workers to the master.

A user class is one scenario.
In an open loop a user is a source of arrivals, with a share of the shape that it follows by itself (see `shapes`), or of its own rate where
Locust's `-u` says the load; in a closed loop it is a caller who waits for each answer.

Locust's statistics show a call as several rows of one name, told apart by their type:

| type | its numbers |
|---|---|
| E2E | end-to-end latency; its size is output tokens; failures are counted here |
| TTFT, ITL, TPOT | milliseconds, streams only |
| TOK/S | output tokens per second and user |
| GOOD | calls that met every objective: its rate is the goodput |

Importing this imports Locust, and with it gevent's patches: nothing but the locustfile does.
"""

import gc
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import gevent
import msgspec
from flask import Response, render_template, request
from locust import LoadTestShape, User, events, task
from locust.runners import MasterRunner, WorkerRunner
from locust.stats import StatsCSVFileWriter

from loadtests import document, machine, preflight, progress, scenarios
from loadtests.answers import BadAnswer
from loadtests.client import Base
from loadtests.engine import CLOSED, Engine, Health, Plan
from loadtests.health import EVERY_S, Watch
from loadtests.metrics import Record, meets, read_objectives
from loadtests.options import PARTS, SOURCES, OptionsWrong, parse_plan, read_file
from loadtests.scenarios import class_of
from loadtests.shapes import Shape
from loadtests.summary import by_scenario, summarize

# Locust ends a run at its next look after this; the sources end themselves when the shape does.
_AFTERWARDS_S = 0.5
# Within which all workers have begun, or some never will.
_BEGUN_BY_S = 30.0
_HAND_OVER_S = 5.0
_IDLE_S = 60.0
# Calls that Locust's page is told of: it asks every second or two, of a process that has other things to do.
_LATEST = 5000
# Messages between master and workers.
_END, _ENDED = "penstock_end", "penstock_ended"
# Stands for the host that Locust's page will be told only later.
_NOWHERE = "http://127.0.0.1"


class CallFailed(Exception):
    """A call that went wrong, as Locust lists it."""


class LoadUser(User):
    """A source of calls of one scenario."""

    abstract = True
    scenario = ""

    @task
    def go(self) -> None:
        """Make calls: one and wait for it in a closed loop, for ever in an open one."""
        engine = self.environment.penstock.engine
        if engine.plan.arrivals == CLOSED:
            engine.once(self.scenario)
        else:
            engine.feed(self.scenario)
            # Its share of the shape is over; Locust would have it begin again.
            while True:
                gevent.sleep(_IDLE_S)

    def stop(self, force: bool = False) -> bool:
        """End at once: calls that are open are greenlets of their own, and the site lets them end."""
        return bool(super().stop(force=True))


class Pace(LoadTestShape):
    """A shape of ours as Locust follows it, once a second: its users in a closed loop, all of its sources at once in an open one."""

    def __init__(self, shape: Shape, *, closed: bool) -> None:
        super().__init__()
        self._shape = shape
        self._closed = closed
        self._all_began_s: float | None = None

    def reset_time(self) -> None:
        """Begin anew, as Locust has it for each run."""
        super().reset_time()
        self._all_began_s = None

    def all_began(self) -> None:
        """Note that every source has begun, those of workers elsewhere, too: only now the shape's time can be over for all."""
        if self._all_began_s is None:
            self._all_began_s = self.get_run_time()

    def tick(self) -> tuple[int, float] | None:
        """Give users and how many of them to start in a second, `None` when it is over."""
        at = self.get_run_time()
        if not self._closed:
            began = _BEGUN_BY_S if self._all_began_s is None else self._all_began_s
            over = at >= began + self._shape.duration_s + _AFTERWARDS_S
            return None if over else (SOURCES, SOURCES)
        users = self._shape.at(at)
        # Locust warns above a hundred new users a second.
        return None if users is None else (max(round(users), int(users > 0)), 100.0)


class Site:
    """
    All of ours that belongs to one Locust process.

    On a worker it makes the calls and reports them; on the master it gathers; alone it does both.
    """

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.engine: Engine | None = None
        self.records: list[Record] = []
        self.samples: list[Health] = []
        self._to_report: list[Record] = []
        self._samples_to_report: list[Health] = []
        self._calls: set[Any] = set()
        self._chores: list[Any] = []
        self._ended: set[str] = set()
        self._begun = 0.0
        self._written = False
        self._quitting = False
        self._machine: dict[str, Any] = {}

    @property
    def options(self) -> Any:
        """The command line."""
        return self.environment.parsed_options

    @property
    def plan(self) -> Plan:
        """The plan of the run, as the options have it."""
        return parse_plan(vars(self.options), self.environment.host)

    # A run begins and ends...

    def describe_machine(self) -> None:
        """Ask what a report has to say of the machine, while there is time: it starts git, and a process that ends, or measures, starts nothing."""
        self._machine = machine.described()

    def begin(self) -> None:
        """Forget what was, and make the engine."""
        for kept in (self.records, self.samples, self._to_report, self._samples_to_report):
            kept.clear()
        self._ended.clear()
        self._written = False
        # What is there by now stays: to look through it again and again would make calls late.
        gc.collect()
        gc.freeze()
        self._begun = time.monotonic()
        runner = self.environment.runner
        if isinstance(runner, MasterRunner):
            # Goes to the workers with the options: each has to know its place among the others.
            self.options.workers = runner.worker_count
        else:
            plan = self.plan
            self.engine = Engine(
                plan,
                start=self._start,
                note=lambda record: self._note(plan, record),
                worker=runner.worker_index,
            )
            self._chores.append(gevent.spawn(self._watch, f"worker-{runner.worker_index}"))
        if not isinstance(runner, WorkerRunner) and self.options.headless:
            self._chores.append(gevent.spawn(self._tell))

    def end(self) -> None:
        """Let the calls that are open end, as long as `--drain` says; what is open then is `unfinished`."""
        if isinstance(self.environment.runner, MasterRunner):
            self._await_workers()
        self._await_calls()
        gevent.killall(self._chores, block=False)
        self._chores.clear()
        if self.engine is not None:
            self.engine.close()
        if isinstance(self.environment.runner, WorkerRunner):
            # Before it says that it has stopped: its master knows it no more after that.
            self.hand_over()
        if self.environment.web_ui is not None:
            self.write()

    def interrupt(self) -> None:
        """Take a Ctrl-C: it ends the run, in the main greenlet; one that comes as all ends breaks off nothing, a further one does."""
        if self._quitting:
            self._quitting = False
            return
        # gevent hands it on to the main greenlet.
        raise KeyboardInterrupt

    def quit(self) -> None:
        """End what still runs (as on Ctrl-C), then write the report."""
        self._quitting = True
        self.environment.runner.quit()
        if isinstance(self.environment.runner, WorkerRunner):
            self.hand_over()
        else:
            self.write()

    def hand_over(self) -> None:
        """Send the master all that it has not got yet, and say that this was all: where two end this worker at a time, calls may still be open."""
        self._await_calls()
        runner = self.environment.runner
        runner._send_stats()  # noqa: SLF001  (Locust's own way on "quit")
        runner.send_message(_ENDED, runner.client_id)

    def _await_calls(self) -> None:
        if self._calls:
            gevent.joinall(list(self._calls), timeout=self.options.drain)
            gevent.killall(list(self._calls), block=True, timeout=5)

    def _await_workers(self) -> None:
        """
        Have every worker end its calls and hand over its records, and wait until all have.

        Locust's master waits half a second for that and goes, which is less than a stream takes.
        One that has missed its last worker for three seconds has ended by itself, and hears of none any more.
        """
        runner = self.environment.runner
        # Who is missing may be back in a moment, with records that nobody else has.
        expected = {client.id for client in runner.clients.all}
        runner.send_message(_END)
        give_up = time.monotonic() + self.options.drain + _HAND_OVER_S
        while expected - self._ended and time.monotonic() < give_up:
            gevent.sleep(0.05)
        if late := expected - self._ended:
            print(f"{len(late)} workers did not hand over their last records", file=sys.stderr)

    def ended(self, client_id: str) -> None:
        """Note that a worker has handed over everything."""
        self._ended.add(client_id)

    def _start(self, go: Callable[[], object]) -> Any:
        call = gevent.spawn(go)
        self._calls.add(call)
        call.rawlink(self._calls.discard)
        return call

    # What is seen...

    def _note(self, plan: Plan, record: Record) -> None:
        if isinstance(self.environment.runner, WorkerRunner):
            self._to_report.append(record)
        else:
            self.records.append(record)
        if not record.counts:
            return
        name = record.scenario if len(plan.bases) == 1 else f"{record.base}: {record.scenario}"
        fire = self.environment.events.request.fire
        failure = None if record.fine else CallFailed(f"{record.outcome}: {record.detail[:80]}")
        rows = [
            ("E2E", record.e2e_ms if record.e2e_ms is not None else record.took_ms),
            ("TTFT", record.ttft_ms),
            ("ITL", record.itl_ms),
            ("TPOT", record.tpot_ms),
            ("TOK/S", 1000 / record.itl_ms if record.itl_ms else None),
            ("GOOD", record.e2e_ms if meets(record, plan.objectives) else None),
        ]
        for kind, value in rows:
            if value is not None:
                fire(
                    request_type=kind,
                    name=name,
                    response_time=value,
                    response_length=record.tokens if kind == "E2E" else 0,
                    exception=failure if kind == "E2E" else None,
                    context={"tenant": record.tenant},
                )

    def _watch(self, process: str) -> None:
        watch = Watch(process)
        while True:
            gevent.sleep(EVERY_S)
            assert self.engine is not None
            sample = watch.sample(self.engine.open_calls, self.engine.dropped)
            if isinstance(self.environment.runner, WorkerRunner):
                self._samples_to_report.append(sample)
            else:
                self.samples.append(sample)

    def _tell(self) -> None:
        line = progress.Line(sys.stderr)
        while True:
            gevent.sleep(1)
            line.tell(time.monotonic() - self._begun, self.records, self.samples)

    # Between workers and master...

    def report(self, data: dict[str, Any]) -> None:
        """Put into a worker's message what came since the one before."""
        data["penstock"] = {
            "records": msgspec.to_builtins(self._to_report),
            "samples": msgspec.to_builtins(self._samples_to_report),
        }
        self._to_report = []
        self._samples_to_report = []

    def gather(self, data: dict[str, Any]) -> None:
        """Take what a worker's message brought."""
        told = data.get("penstock", {})
        self.records += msgspec.convert(told.get("records", []), list[Record])
        self.samples += msgspec.convert(told.get("samples", []), list[Health])

    # The end...

    def document(self) -> dict[str, Any]:
        """Summarize the run so far."""
        options = self.options
        classes = [one.scenario for one in self.environment.user_classes]
        return summarize(
            self.records,
            self.samples,
            objectives=read_objectives(options.slo),
            about={
                "title": options.title or f"{', '.join(classes)} against {self.environment.host}",
                "config": {
                    "scenarios": classes,
                    "load": options.load,
                    "arrivals": options.arrivals,
                    "duration": options.duration,
                    "timeout_s": options.timeout,
                    "tenants": [one.name for one in self.plan.tenants] if self.bases() else [],
                    "seed": options.seed,
                    "bases": [
                        {"name": one.name, "url": one.url, "model": one.model}
                        for one in self.bases()
                    ],
                },
                "machine": self._machine,
            },
        )

    def bases(self) -> tuple[Base, ...]:
        """Give the bases of the plan, none where no host was given yet."""
        try:
            return self.plan.bases
        except OptionsWrong:
            return ()

    def write(self) -> None:
        """Write document, records and page into `--out`, once per run."""
        if self._written or not self.options.out or not self._begun:
            return
        self._written = True
        document.write(Path(self.options.out), self.document(), self.records)


def _site(environment: Any) -> Site:
    site: Site = environment.penstock
    return site


def add_options(parser: Any) -> None:
    """Add our options to Locust's."""
    for part in PARTS:
        parser.add_argument(
            f"--{part.name}",
            type=part.type,
            default=part.preset(),
            help=part.help,
            is_secret=part.secret,
            include_in_web_ui=part.name in {"key", "model", "load", "duration", "slo"},
        )


def set_up(environment: Any) -> None:
    """
    Make this process ours: read files, look whether the target answers, choose shape and users.

    Ends the process with 2 and every mistake in words, before load starts.
    """
    options = environment.parsed_options
    site = environment.penstock = Site(environment)
    # Ctrl-C is no mistake that gevent has to print.
    hub = gevent.get_hub()
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)
    # By itself Python raises it in whatever runs at that moment: a call whose answer is read then would be lost, or a report to the master.
    # Where it is ignored, it stays so.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        gevent.signal_handler(signal.SIGINT, site.interrupt)
    # Added after Locust's own, and so called before it closes the connection to the master.
    environment.events.quitting.add_listener(lambda **_: site.quit())
    # These two events do not say whose they are.
    environment.events.report_to_master.add_listener(lambda data, **_: site.report(data))
    environment.events.worker_report.add_listener(lambda data, **_: site.gather(data))
    if isinstance(environment.runner, WorkerRunner):
        # Nothing here may wait: the master knows of this worker, and may have it begin at once.
        environment.runner.register_message(_END, _end_worker, concurrent=True)
        return
    site.describe_machine()
    if isinstance(environment.runner, MasterRunner):
        environment.runner.register_message(_ENDED, _worker_ended)
    environment.stop_timeout = max(environment.stop_timeout or 0, options.drain)
    mistakes: list[str] = []
    for name in ("bases", "tenants"):
        try:
            setattr(options, name, read_file(name, getattr(options, name)))
        except OptionsWrong as mistake:
            mistakes.append(str(mistake))
    plan: Plan | None = None
    if not mistakes:
        try:
            plan = parse_plan(vars(options), environment.host or _NOWHERE)
            if environment.host or options.bases:
                if not options.bases and not options.model:
                    options.model = preflight.first_model(plan.bases[0])
                mistakes += preflight.look(site.plan, _scenarios(environment))
        except (OptionsWrong, BadAnswer) as mistake:
            mistakes += str(mistake).splitlines()
        except OSError as mistake:
            mistakes.append(f"{environment.host} is not reachable: {mistake.strerror or mistake}")
    if mistakes:
        for words in mistakes:
            print(f"cannot start: {words}", file=sys.stderr)
        sys.exit(2)
    if plan is not None and plan.shape is not None:
        pace = environment.shape_class = Pace(plan.shape, closed=plan.arrivals == CLOSED)
        pace.runner = environment.runner
        environment.events.spawning_complete.add_listener(lambda **_: pace.all_began())
    if environment.web_ui is not None:
        _extend_page(environment)


def _end_worker(environment: Any, msg: Any) -> None:
    environment.runner.stop()
    _site(environment).hand_over()


def _worker_ended(environment: Any, msg: Any) -> None:
    _site(environment).ended(msg.data)


def _scenarios(environment: Any) -> list[str]:
    options = environment.parsed_options
    if not options.user_classes and not options.class_picker:
        # All classes at once would be no traffic that anybody has.
        mixed = [one for one in environment.user_classes if one.scenario == "mixed"]
        environment.user_classes = mixed or environment.user_classes
    return [one.scenario for one in environment.user_classes]


def _extend_page(environment: Any) -> None:
    """Add a tab with our own figures to Locust's page, at `/llm`, and the report so far at `/report`."""
    app = environment.web_ui.app
    key = "penstock"

    @app.after_request
    def add_figures(response: Any) -> Any:
        if request.path == "/stats/requests" and response.is_json:
            site = _site(environment)
            found = by_scenario(site.records[-_LATEST:], read_objectives(site.options.slo))
            rows = document.rows({"by_scenario": found})
            response.set_data(
                msgspec.json.encode(
                    {**response.json, "extended_stats": [{"key": key, "data": rows}]}
                )
            )
        return response

    @app.route("/llm")
    def llm() -> Any:
        ui = environment.web_ui
        ui.update_template_args()
        ui.template_args = {
            **ui.template_args,
            "extended_tabs": [{"title": "Tokens", "key": key}],
            "extended_tables": [
                {"key": key, "structure": [{"key": k, "title": t} for k, t in document.COLUMNS]}
            ],
        }
        return render_template("index.html", template_args=ui.template_args)

    @app.route("/report")
    def report() -> Any:
        return Response(document.page([_site(environment).document()]), mimetype="text/html")


def _flush(writer: StatsCSVFileWriter) -> None:
    writer.requests_flush()
    writer.stats_history_flush()
    writer.failures_flush()
    writer.exceptions_flush()


def _unless_interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say what ended the process, where Ctrl-C did not."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


def install() -> None:
    """Hang all of this on Locust's events; the locustfile calls it."""
    # Before load begins Locust has nothing to end, and breaks off.
    sys.excepthook = _unless_interrupted
    # Locust closes these files while their writer sleeps, who writes once more when it waits for its processes, and fails.
    StatsCSVFileWriter.close_files = _flush
    events.init_command_line_parser.add_listener(add_options)
    events.init.add_listener(lambda environment, **_: set_up(environment))
    events.test_start.add_listener(lambda environment, **_: _site(environment).begin())
    events.test_stop.add_listener(lambda environment, **_: _site(environment).end())


def user_classes() -> dict[str, type[LoadUser]]:
    """Make the class of each scenario, by its name: `ChatStreamUser` for `chat-stream`."""
    return {
        class_of(name): type(
            class_of(name), (LoadUser,), {"scenario": name, "__doc__": build.__doc__}
        )
        for name, build in scenarios.SCENARIOS.items()
    }
