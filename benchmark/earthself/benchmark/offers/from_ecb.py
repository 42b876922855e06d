"""The European Central Bank's reference rates, from the files that it publishes: eurofxref.csv, eurofxref-hist.csv, or the same as XML."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from earthself.benchmark.errors import BadOffers
from earthself.benchmark.offers.checks import check
from earthself.benchmark.offers.model import Rate, Source

NAME = "European Central Bank"
URL = "https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates/"
MOST_BYTES = 20_000_000
_QUOTED = re.compile(r"[0-9]+(\.[0-9]+)?")
_CURRENCY = re.compile(r"[A-Z]{3}")


def rows(file: Path) -> Iterator[Rate]:
    """Give each currency's newest rate; the bank says how many units a euro is worth. Raises `BadOffers`."""
    if (size := file.stat().st_size) > MOST_BYTES:
        raise BadOffers(f"{file} has {size} bytes; the bank's files have less than {MOST_BYTES}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadOffers(f"{file} is not in UTF-8 ({error}); unpack it first, where it ends with .zip") from error
    newest: dict[str, tuple[date, float]] = {}
    for day, currency, quoted in _xml(text, file) if text.lstrip().startswith("<") else _csv(text, file):
        if currency not in newest or day > newest[currency][0]:
            newest[currency] = day, quoted
    if not newest:
        raise BadOffers(f"{file} has no rates; give eurofxref.csv, eurofxref-hist.csv or their XML")
    for currency, (day, quoted) in sorted(newest.items()):
        rate = Rate(currency, 1 / quoted, Source(NAME, URL, day))
        check(rate)
        yield rate


def _csv(text: str, file: Path) -> Iterator[tuple[date, str, float]]:
    lines = csv.reader(text.splitlines())
    header = [cell.strip() for cell in next(lines, [])]
    currencies = header[1:-1] if header and not header[-1] else header[1:]
    if not header or header[0] != "Date" or not all(_CURRENCY.fullmatch(each) for each in currencies):
        raise BadOffers(f"{file}, line 1: this is no table of the bank's rates; it begins with Date, USD, JPY")
    for cells in lines:
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise BadOffers(f"{file}, line {lines.line_num}: {len(cells)} cells for {len(header)} columns; fetch the file again")
        place = f"{file}, line {lines.line_num}"
        day = _day(cells[0].strip(), place)
        for currency, cell in zip(currencies, cells[1:], strict=False):
            if cell.strip() not in ("", "N/A"):
                yield day, currency, _quoted(cell.strip(), f"{place}, {currency}")


def _xml(text: str, file: Path) -> Iterator[tuple[date, str, float]]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadOffers(f"{file} defines entities, which the bank's file does not; fetch it again")
    try:
        root = ET.fromstring(text)  # noqa: S314 - without entities, and bounded
    except ET.ParseError as error:
        raise BadOffers(f"{file} is no XML ({error}); fetch it again") from error
    for of_day in root.iterfind(".//{*}Cube[@time]"):
        said = of_day.get("time") or ""
        for each in of_day:
            currency = each.get("currency") or ""
            place = f"{file}, {said}, {currency}"
            if not _CURRENCY.fullmatch(currency):
                raise BadOffers(f"{place}: this is no currency; fetch the file again")
            yield _day(said, place), currency, _quoted(each.get("rate") or "", place)


def _day(said: str, place: str) -> date:
    for form in ("%Y-%m-%d", "%d %B %Y"):
        try:
            return datetime.strptime(said, form).date()  # noqa: DTZ007 - a day has no zone
        except ValueError:
            continue
    raise BadOffers(f"{place}: {said[:80]!r} is no day as the bank writes it; fetch the file again")


def _quoted(said: str, place: str) -> float:
    if not _QUOTED.fullmatch(said) or float(said) == 0:
        raise BadOffers(f"{place}: {said[:80]!r} is no rate; fetch the file again")
    return float(said)
