"""Alerts reach people through the notifier that the settings name: a real one, speaking SMTP to a server that takes or refuses."""

from __future__ import annotations

import asyncio
import email
import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from email.message import Message

import pytest
from earthself.triggers import EODAGNewProductsTrigger
from earthself.triggers.alerts import run_is_late
from earthself.triggers.errors import BadWatch, NoticeNotSent
from earthself.triggers.notices import Notify, send
from earthself.triggers.settings import parse_settings
from watched import AREA

SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"


class Post(socketserver.ThreadingTCPServer):
    """A mail server on the loopback interface."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.mails: list[Message] = []
        self.refuses = False


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        post = self.server
        assert isinstance(post, Post)
        self.wfile.write(b"220 loopback\r\n")
        for line in self.rfile:
            if line.upper().startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                text = b"".join(iter(self.rfile.readline, b".\r\n"))
                post.mails.append(email.message_from_bytes(text))
            if line.upper().startswith(b"MAIL") and post.refuses:
                self.wfile.write(b"451 try again\r\n")
            else:
                self.wfile.write(b"250 ok\r\n")


@pytest.fixture
def post(monkeypatch) -> Iterator[Post]:
    with Post() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        extra = {"disable_ssl": True, "disable_tls": True, "timeout": 5, "retry_limit": 1}
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": server.server_address[1], "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        arguments = {"from_email": "eo@example.org", "to": "duty@example.org", "subject": "{{ watch }}", "html_content": "{{ text }}"}
        settings = {
            "areas": {"fields": {"area": AREA, "goal": {}, "every_minutes": 60}},
            "notify": {"notifier": SMTP, "arguments": {"smtp_conn_id": "smtp_default", **arguments}},
        }
        monkeypatch.setenv("AIRFLOW_VAR_EARTHSELF_MONITOR", json.dumps(settings))
        yield server
        server.shutdown()


def text(mail: Message) -> str:
    return b"".join(part.get_payload(decode=True) for part in mail.walk() if not part.is_multipart()).decode()


def test_an_alert_is_mailed_once_when_it_begins_though_the_mail_server_was_away(world, post, caplog) -> None:
    loop, trigger = world.rounds(), EODAGNewProductsTrigger(settings="earthself_monitor")
    loop.go([trigger])
    world.publish("2024-06-01")
    post.refuses = True
    for _ in range(4):
        world.clock.advance(hours=8)
        events = loop.go([trigger])
        loop.announced(events)
    world.clock.advance(hours=24)
    loop.go([trigger])
    assert post.mails == []
    assert f"the notifier {SMTP} did not take an alert" in caplog.text
    post.refuses = False
    for _ in range(3):
        world.clock.advance(hours=1)
        loop.go([trigger])
    (mail,) = post.mails
    assert (mail["Subject"], mail["To"]) == ("earthself_monitor:fields", "duty@example.org")
    assert text(mail).startswith("not as fresh as promised: earthself_monitor:fields: 0% of 1 acquisitions in time")


def test_a_run_that_misses_its_deadline_is_mailed(post) -> None:
    context = {"dag_run": {"run_id": "scheduled__1", "dag_id": "earthsignature_monitor"}}
    asyncio.run(run_is_late(context=context, settings="earthself_monitor"))
    assert text(post.mails[0]).startswith("the run scheduled__1 of earthsignature_monitor is not done by its deadline")


@pytest.mark.parametrize("name", ["os.system", "earthself.no.such", "earthself.triggers.EODAGNewProductsTrigger"])
def test_only_a_notifier_is_called(name) -> None:
    with pytest.raises(NoticeNotSent, match=f"the notifier {name} did not take an alert"):
        send(Notify(name, {}), "late", "w")


def test_a_slip_is_named_and_nobody_is_told_by_default(world, caplog) -> None:
    with pytest.raises(BadWatch, match="notify: 'notifier' is a required property"):
        parse_settings('{"notify": {}}', "v")
    assert parse_settings('{"notify": null}', "v").notify is None
    with caplog.at_level(logging.ERROR):
        world.rounds().go([EODAGNewProductsTrigger(area=AREA, name="w")])
    assert caplog.text == ""
