"""A notice by e-mail: plain text, to one recipient, over TLS unless the settings say that the server is beside us.

The library writes headers from typed parts and refuses line breaks in them, so that nothing in a request can add a header or a recipient.
Source: RFC 5321 (SMTP), RFC 3207 (STARTTLS), RFC 3834 (Auto-Submitted).
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from email.utils import format_datetime
from typing import Final

import aiosmtplib

from stockade.jobs.notices.configured_secret import configured_secret
from stockade.jobs.notices.undelivered import Undelivered
from stockade.kernel.secret import Secret
from stockade.settings import Mail
from stockade.storage.documents import Document

MAX_SUBJECT: Final = 200
DIALOGUE: Final = 3
"""Times the setting's time limit, which is for one answer of the server: how long all of it may take."""


async def deliver(settings: Mail, notice: Document, now: float) -> None:
    """Send a notice to the one it is for; Undelivered when the server did not take it."""
    letter = message(settings, notice, now)
    password = _password(settings)
    client = aiosmtplib.SMTP(
        hostname=settings.host,
        port=settings.port,
        timeout=settings.timeout_s,
        use_tls=settings.tls == "tls",
        start_tls=settings.tls == "starttls",
        tls_context=None if settings.tls == "none" else _tls(settings),
        local_hostname="localhost",  # else the library looks this machine's name up, without a time limit
    )
    try:
        async with asyncio.timeout(DIALOGUE * settings.timeout_s):
            await client.connect()
            if password is not None:
                await client.login(settings.user, password.reveal_text())
            await client.send_message(letter)
            # It is delivered, whatever the server says to a farewell.
    except TimeoutError as failure:
        raise Undelivered("the mail server did not answer in time") from failure
    except aiosmtplib.SMTPRecipientsRefused as failure:
        code = failure.recipients[0].code if failure.recipients else 0
        raise Undelivered(f"the mail server does not take mail for the recipient ({code})") from failure
    except aiosmtplib.SMTPResponseException as failure:
        raise Undelivered(f"the mail server refused ({failure.code})") from failure
    except (aiosmtplib.SMTPException, OSError) as failure:
        what = "does not prove who it is" if _is_untrusted(failure) else "cannot be reached, or broke off"
        raise Undelivered(f"the mail server {what}") from failure
    finally:
        client.close()


def message(settings: Mail, notice: Document, now: float) -> EmailMessage:
    """Return the letter. It has the same Message-ID whenever it is sent, so that a second one can be told from a new one."""
    body = notice.body
    letter = EmailMessage(policy=WIRE)
    letter["From"] = settings.sender
    letter["To"] = str(body["to"]).removeprefix("mailto:")
    letter["Subject"] = "".join(sign if sign.isprintable() else " " for sign in str(body["title"]))[:MAX_SUBJECT]
    letter["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    letter["Message-ID"] = f"<{body['name']}@{settings.sender.rpartition('@')[2]}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(f"{body['title']}\n\n{body['text']}\n")
    return letter


def _tls(settings: Mail) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except OSError as failure:
        raise Undelivered(f"notices.mail.ca_file {settings.ca_file} cannot be used") from failure
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _password(settings: Mail) -> Secret | None:
    if not settings.user:
        return None
    return configured_secret("the mail server's password", settings.credential_env, settings.credential_file)


def _is_untrusted(failure: BaseException | None) -> bool:
    while failure is not None:
        if isinstance(failure, ssl.SSLError):
            return True
        failure = failure.__cause__ or failure.__context__
    return False
