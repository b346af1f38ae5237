"""Views and words → HTML. Whatever comes from outside is made printable and escaped, wherever a template puts it."""

import datetime as dt
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup

from stripedjob.explaining import breaker_words, seconds_until, standing, why_not_yet, why_waiting
from stripedjob.telling import told
from stripedjob.text import counted, printable, rated
from stripedjob.times import said
from stripedjob.ui.access import Seen
from stripedjob.ui.views import View

STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
COUNTED_MAX = 10_000  # as far as the pool counts resources
SPANS = ((172_800.0, 86_400.0, "d"), (7_200.0, 3_600.0, "h"), (120.0, 60.0, "min"), (0.0, 1.0, "s"))


class Renderer:
    """Renders views as their viewers may see them."""

    def __init__(self) -> None:
        """Find the templates."""
        self._env = _environment()

    def fragment(self, view: View, seen: Seen, trouble: str) -> str:
        """Render what stands in a view's page."""
        if seen.data is None:
            if trouble:
                return self._render("away.html", trouble=trouble)
            return self._render("words.html", title="Not there", words=view.missing)
        return self._render(view.template, view=view, data=seen.data, rights=seen.rights)

    def words(self, title: str, words: str) -> str:
        """Render a page that says something."""
        return self._page(title, self._render("words.html", title=title, words=words))

    def form(self, template: str, title: str, **values: Any) -> str:
        """Render a page that asks something."""
        return self._page(title, self._render(template, title=title, **values))

    def page(self, view: View, seen: Seen, trouble: str) -> str:
        """Render a view's whole page."""
        body = self.fragment(view, seen, trouble)
        return self._page(view.title(seen.data), body, rights=seen.rights, trouble=trouble, view=view)

    def _page(self, title: str, body: str, **values: Any) -> str:
        values = {"trouble": "", "view": None, "rights": None} | values
        return self._render("base.html", title=title, body=Markup(body), **values)  # noqa: S704 - rendered here

    def _render(self, template: str, **values: Any) -> str:
        return self._env.get_template(template).render(**values)


@cache
def static(name: str) -> tuple[bytes, str]:
    """Return a file that pages ask for, and what it is recognised by."""
    body = (files(__package__) / "static" / name).read_bytes()
    return body, hashlib.sha256(body).hexdigest()[:12]


def url(path: str, **query: Any) -> str:
    """Make a URL of this page; what is None is left out."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def span(seconds: float) -> str:
    """Return a length of time in one unit: 87 s, 12 min, 5 h, 9 d."""
    seconds = abs(seconds)
    size, name = next((size, name) for least, size, name in SPANS if seconds >= least)
    return f"{seconds / size:.0f} {name}"


def away(text: str | None, now: str) -> Markup:
    """Return a time of the database as how far it is from now, with the whole of it in a title."""
    if text is None:
        return Markup("-")
    if text in ("infinity", "-infinity"):
        return Markup("never")
    seconds = seconds_until(text, now)
    if seconds is None:
        return Markup("{}").format(printable(text))
    moment = dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    words = f"in {span(seconds)}" if seconds > 0 else f"{span(seconds)} ago"
    markup = Markup('<time datetime="{}" title="{}">{}</time>')
    return markup.format(f"{moment:%Y-%m-%dT%H:%M:%SZ}", f"{moment:%Y-%m-%d %H:%M:%S} UTC", words)


def age(text: str | None, now: str) -> str:
    """Return how long ago a time of the database is."""
    seconds = seconds_until(text, now) if text else None
    return "-" if seconds is None else span(min(seconds, 0.0))


def number(value: int) -> str:
    """Return a number with commas."""
    return f"{value:,}"


def bounded(value: int) -> str:
    """Return a number that the pool counts as far as COUNTED_MAX."""
    return f"{COUNTED_MAX:,} or more" if value >= COUNTED_MAX else f"{value:,}"


def lines(text: str | None) -> list[str]:
    """Take a text of several lines apart."""
    return (text or "").splitlines()


def phase(status: dict[str, Any]) -> str:
    """Say how a job stands, in one word."""
    if status["paused_by"] is not None:
        return "Paused"
    if status["schedule_limit"] == 0:
        return "Stopped"
    if status["leased_resources"]:
        return "Working"
    if status["pending"] and not status["workers"]:
        return "Stalled"
    return "Waiting" if status["pending"] or status["delayed"] else "Idle"


def paused_by(status: dict[str, Any]) -> dict[str, Any] | None:
    """Say who has paused a job, why and when; None where nobody has."""
    if status["paused_by"] is None:
        return None
    return {"who": status["paused_by"], "why": status["paused_why"], "at": status["paused_at"]}


def why_ready(data: dict[str, Any]) -> str:
    """Say why a job's ready resources are not leased yet."""
    status = data["status"]
    if status["breaker_until"] is not None:
        return broken(status)
    facts: dict[str, Any] = {
        "limit": status["schedule_limit"],
        "workers": status["workers"],
        "delegated": data["delegated"],
        "delegator": data["delegator"],
        "job_paused": paused_by(status),
    }
    if status["schedule_limit"] == 0 or not status["workers"] or (data["delegated"] and not data["delegator"]):
        words = why_not_yet(facts, suspended=False)
        return words[:1].upper() + words[1:]
    if data["outstanding_max"] is not None:
        return "They are assigned as the throttle allows; each resource's page says what its area has against it."
    if status["working"] >= status["schedule_limit"]:
        return f"All {status['schedule_limit']} slots of scheduleLimit are taken; these come next, in this order."
    return "These come next, in this order."


def broken(status: dict[str, Any]) -> str:
    """Say why the circuit breaker of a job is not closed."""
    words = breaker_words(*(status[f"breaker_{name}"] for name in ("failures", "kind", "until", "seconds")))
    return f"{words[:1].upper()}{words[1:]}."


def named(name: str) -> str:
    """Return a name, in quotes where its spaces would not be seen."""
    return name if name and name == name.strip() else f'"{name}"'


def _finalize(value: Any) -> Any:
    return printable(value) if type(value) is str else value


def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "age": age,
        "away": away,
        "number": number,
        "bounded": bounded,
        "lines": lines,
        "named": named,
        "rated": rated,
        "said": said,
        "span": span,
    }
    env.globals |= {
        "broken": broken,
        "counted": counted,
        "phase": phase,
        "paused_by": paused_by,
        "standing": standing,
        "told": told,
        "why_waiting": why_waiting,
        "why_ready": why_ready,
        "url": url,
        "static": lambda name: f"/static/{name}?{static(name)[1]}",
    }
    return env
