"""Where the hooks of an agent lie: absolute addresses, or paths of the application that the agent's file names."""

from collections.abc import Iterator, Mapping
from urllib.parse import urljoin, urlsplit

from config.check import Fault
from config.problems import nearest
from config.server import App
from config.verb import Agent

HOOKS = {"toolHook": "tool_hook", "eventHook": "event_hook", "actionHook": "action_hook"}


def is_path(hook: str) -> bool:
    """A path of the application, not an address of its own."""
    return "://" not in hook


def is_socket(url: str) -> bool:
    return urlsplit(url).scheme in ("ws", "wss")


def address(hook: str, app: App | None) -> str | None:
    """Where a webhook goes; ``None`` for a path that belongs to nobody. A path never leaves the application's host."""
    if not is_path(hook):
        return hook
    return None if app is None else urljoin(app.url, "/" + hook.lstrip("/\\"))


def misplaced(agent: Agent, apps: Mapping[str, App]) -> Iterator[Fault]:
    """An application that there is not, and paths without one."""
    if agent.app is not None and agent.app not in apps:
        meant = nearest(agent.app, apps)
        known = f"known: {', '.join(sorted(apps))}" if apps else "there are none in agentd.yaml"
        yield Fault(
            ("app",),
            "expected a name under apps in agentd.yaml",
            repr(agent.app),
            f"did you mean {meant}?" if meant else known,
        )
    for key, attribute in HOOKS.items():
        hook = getattr(agent, attribute)
        if hook is not None and agent.app is None and is_path(hook.url):
            yield Fault((key,), "expected a URL, or an `app` whose path this is", repr(hook.url))
