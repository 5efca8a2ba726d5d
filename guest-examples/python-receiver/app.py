"""Prints every event, and publishes a greeting for it to `greetings/new`."""

from wit_world import exports
from wit_world.imports import basic
from wit_world.imports.types import Event


class OnMessage(exports.OnMessage):
    def on_message(self, message: Event) -> None:
        text = message.data.decode("utf-8", errors="replace")
        print(f"python received {message.type} {text!r}", flush=True)
        basic.publish("greetings/new", greeting(text))


def greeting(text: str) -> Event:
    """The host fills in the id and the source."""
    return Event(
        id="",
        source="",
        type="com.example.greeting",
        data=f"hello, {text}".encode(),
        content_type="text/plain",
        attributes=[],
        ordering_key=None,
        topic=None,
        attempt=0,
    )
