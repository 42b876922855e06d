"""Asks the Cloud Suggest Engine where a service should run, and finds the connection by which steps run there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.operators.base import EarthSelfOperator, map_index
from earthself.operators.errors import BadRequest, NoSuggestion
from earthself.operators.links import SuggestionLink

if TYPE_CHECKING:
    from airflow.sdk import Context
    from earthself.benchmark.suggestion.answer import Answer, Choice
    from earthself.benchmark.suggestion.need import Need
    from earthself.operators.clouds import Cloud

_LARGEST = 10 * 2**20
"""Bytes of a need's file."""
_MOST_PASSED, _MOST_COMMANDS = 10, 3
"""Places in the record, and commands in a message: the report has more of them."""


class CloudSuggestOperator(EarthSelfOperator):
    """Ask where a service should run; returns a small record, each of whose keys is an XCom of its own.

    Steps run there with `cloud=suggested.output["connection"]`: the Kubernetes connection of the best ranked offer that has one. It is
    None where there is no ranking, or no connection for it, which is what `cloud` takes for the connection `kubernetes_default`.
    The record: `best` and `placed` (the first of the ranking, and the one of the connection: cloud, region, zone, offer, allocation, rank,
    hours, euros; or None), `reason` and `no_connection` (why they are None), `passed_over` (places that are better and have no
    connection), `state`, `data_state`, `day` (what it rests on), `answer` (reference of answer.json) and `report` (path of report.html).

    :param need: what the service needs (docs/suggest.md): a dict, the absolute path of a YAML or JSON file, or JSON text.
    :param database: SQLAlchemy URL of what is known of clouds; None takes the platform's database.
    :param clouds: names of Kubernetes connections to choose from; None takes those of the Variable `earthself_clouds`.
    :param require_ranking: whether to fail where too little is known for a ranking, with what to measure.
    :param require_connection: whether to fail where no connection leads to an offer that is ranked.
    """

    template_fields: Sequence[str] = ("need", "clouds")
    template_fields_renderers = {"need": "json"}  # noqa: RUF012 - Airflow's own way
    operator_extra_links = (SuggestionLink(),)
    ui_color = "#fff2cc"

    def __init__(
        self,
        *,
        need: Any,  # noqa: ANN401 - a dict, a path, a text, or an XComArg of one
        database: str | None = None,
        clouds: Sequence[str] | None = None,
        require_ranking: bool = False,
        require_connection: bool = False,
        multiple_outputs: bool = True,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.need = need
        self.database = database
        self.clouds = clouds
        self.require_ranking = require_ranking
        self.require_connection = require_connection

    def work(self, context: Context) -> dict[str, Any]:
        """Answer, leave `answer.json` and `report.html` in the run's folder `suggestions/<task_id>`, and choose a connection."""
        from earthself.benchmark import suggest
        from earthself.benchmark.suggestion import document, report, words
        from earthself.data.reference import Reference
        from earthself.data.workspace import write_text
        from earthself.operators.placement import known_clouds

        self.forget_what_follows(context)
        clouds = known_clouds(self.clouds)
        answer = suggest(_need(self.need), database_url=self.database)
        folder = self.run_folder(context).suggestion(self.task_id, map_index(context))
        file = write_text(folder / "answer.json", document.text(answer))
        page = write_text(folder / "report.html", report.html(answer))
        for sentence in words.said(answer):
            self.log.info(sentence)
        if answer.best is None and self.require_ranking:
            raise NoSuggestion(_what_to_do(answer, str(page)))
        return {
            "best": answer.best and _account(answer.best),
            "reason": answer.no_ranking,
            **self._placed(answer, clouds),
            "state": answer.state,
            "data_state": answer.data_state,
            "day": answer.today.isoformat(),
            "answer": Reference.to_file(file, len(answer.choices)).to_dict(),
            "report": str(page),
        }

    def _placed(self, answer: Answer, clouds: Sequence[Cloud]) -> dict[str, Any]:
        """Choose the connection of the best offer that has one, and say in the log why and what it passes over."""
        from earthself.operators.placement import leading_to, listed

        ranked = [one for one in answer.choices if one.rank is not None]
        better = list(takewhile(lambda one: leading_to(_place(one), clouds) is None, ranked))
        places: dict[tuple[str, str], Choice] = {}
        for one in better:
            places.setdefault(_place(one), one)
        shown = list(places.values())[:_MOST_PASSED]
        passed = [_account(one) for one in shown]
        if len(better) == len(ranked):
            why = f"none of the connections leads to an offer that is ranked; they are {listed(clouds)}" if ranked else answer.no_ranking
            said = f"{why}; give a connection that provider and region in its field earthself, and list it in clouds=[…]" if ranked else why
            if self.require_connection:
                raise NoSuggestion(f"steps cannot be placed: {said}")
            self.log.warning(f"No connection: {said}. Steps that take it run where steps without a cloud run")
            return {"connection": None, "no_connection": why, "placed": None, "passed_over": passed}
        if passed:
            names = ", ".join(f"{one.candidate.cloud} {one.candidate.region} (rank {one.rank})" for one in shown)
            self.log.warning(f"Passed over, since no connection leads there: {names}{' and more' * (len(places) > _MOST_PASSED)}")
        choice = ranked[len(better)]
        name = next(cloud.conn_id for cloud in clouds if leading_to(_place(choice), [cloud]))
        self.log.info(f"Connection {name} leads to {' '.join(_place(choice))}, rank {choice.rank} of {len(ranked)}")
        return {"connection": name, "no_connection": "", "placed": _account(choice), "passed_over": passed}


def _need(said: Any) -> Need:  # noqa: ANN401 - what somebody wrote into a DAG file
    """Read a need; raises `BadNeed`, and `BadRequest` where there is none."""
    from earthself.benchmark.suggestion.need import Need, read_need

    if isinstance(said, Mapping):
        return Need.from_document(dict(said))
    if isinstance(said, str) and said.lstrip().startswith("{"):
        return read_need(said, "need")
    if not isinstance(said, str | Path) or not (path := Path(said)).is_absolute():
        raise BadRequest(f"need {str(said)[:100]!r} is neither a dict nor an absolute path; write Path(__file__).with_name('need.yaml')")
    try:
        with path.open(encoding="utf-8") as file:
            return read_need(file.read(_LARGEST + 1), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"need {path} cannot be read ({error}); give the path of a YAML or JSON file that the workers see") from error


def _place(choice: Choice) -> tuple[str, str]:
    return choice.candidate.cloud, choice.candidate.region


def _account(choice: Choice) -> dict[str, Any]:
    price, found = choice.candidate.price, choice.estimate
    return {
        "cloud": price.cloud,
        "region": price.region,
        "zone": price.zone,
        "offer": price.offer,
        "allocation": price.allocation.value,
        "rank": choice.rank,
        "hours": found.hours.value,
        "euros": found.euros.value,
    }


def _what_to_do(answer: Answer, page: str) -> str:
    from earthself.benchmark.suggestion import words

    commands = [words.plain(one.command) for one in answer.to_measure[:_MOST_COMMANDS]]
    measure = f" Measure with: {'; '.join(commands)}." if commands else ""
    nearest = "" if commands else " ".join(["", *words.instead(answer)])
    return f"{words.headline(answer)}{measure}{nearest} All that is known: {page}"
