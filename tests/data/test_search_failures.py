"""Searching where providers fail: fallback, attempts, deadlines, nonsense, and errors that say whose fault it is."""

from __future__ import annotations

import pytest
from earthself.data.errors import BadInput, CredentialsRefused, DataError, NotThere, TryAgain
from earthself.data.query import SourceConfig
from earthself.data.retries import RetryPolicy
from earthself.data.sources import Sources
from provider import QUICK, Answer, Drip, DripHeaders, Provider, Stall
from searches import Make, add, request


def test_a_provider_that_gives_less_than_it_counts_is_passed_over(provider: Provider) -> None:
    """Better all of the next provider than some of the first; where nobody has all, what there is comes with a warning."""
    with Provider() as short:
        for day in range(1, 29):
            add(short, day)
        short.page_cap, short.links = 10, False
        add(provider, 13)
        config = SourceConfig(("short", "hostile"), provider_config=short.settings("short") + provider.settings("hostile"))
        with Sources(config, retries=RetryPolicy(1)) as made:
            found = made.search(request())
            assert (found.provider, len(found.items)) == ("hostile", 1)
            said = "short says that 28 products match and gives 10; some may be missing"
            assert found.warnings == [f"short failed, the next provider was asked: {said}"]
            alone = made.search(request(provider="short"))
            assert (alone.provider, len(alone.items), alone.number_matched, alone.warnings) == ("short", 10, 28, [said])
            provider.search.always = Answer(504)
            rest = made.search(request())
            assert (rest.provider, len(rest.items)) == ("short", 10)
            assert "hostile is busy or broken (504)" in rest.warnings[0]
            assert said in rest.warnings[0]


def test_a_count_without_any_product_is_no_answer(provider: Provider, sources: Make) -> None:
    provider.counted = 57
    with pytest.raises(TryAgain, match="hostile says that 57 products match and gives 0"):
        sources().search(request())


def test_a_provider_whose_pages_repeat_is_found_out(provider: Provider, sources: Make) -> None:
    add(provider, 13)
    again = provider.find({}, 0) | {"links": [{"rel": "next", "method": "POST", "href": "x", "body": {"token": "1"}}]}
    del again["numberMatched"]
    provider.documents = [again]
    found = sources().search(request())
    assert len(found.items) == 1
    assert found.warnings == ["hostile gives page after page without a new product after 1; some may be missing"]
    assert len(provider.requests) < 10


@pytest.mark.parametrize(
    "document",
    [
        {"code": "InternalError", "description": "database is down"},
        [],
        None,
        "busy",
        {"type": "FeatureCollection", "features": None, "links": []},
        {"type": "FeatureCollection", "features": [None], "links": []},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "id": "x"}], "links": []},
        {"type": "FeatureCollection", "links": []},
        {"type": "FeatureCollection", "features": [], "links": [], "numberMatched": 57},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}}], "links": []},
    ],
)
def test_a_success_that_is_no_list_of_products_is_a_failure(provider: Provider, slept: list[float], document: object) -> None:
    with Provider() as broken:
        broken.documents = [document]
        add(provider, 13)
        config = SourceConfig(("broken", "hostile"), provider_config=broken.settings("broken") + provider.settings("hostile"))
        with Sources(config, retries=RetryPolicy(2, sleep=slept.append)) as made:
            found = made.search(request())
            assert (found.provider, len(found.items), len(found.warnings)) == ("hostile", 1, 1)
            assert found.warnings[0].startswith("broken failed, the next provider was asked: broken ")
            with pytest.raises(DataError, match="broken"):
                made.search(request(provider="broken"))


@pytest.mark.parametrize("fault", [Drip(0.05), DripHeaders(0.05)])
def test_a_search_that_drips_for_ever_ends(
    provider: Provider, sources: Make, monkeypatch: pytest.MonkeyPatch, fault: Drip | DripHeaders
) -> None:
    add(provider, 13)
    made = sources(attempts=2)
    assert made.count(request()).products == 1  # EODAG is loaded, which takes its time
    provider.search.always = fault
    monkeypatch.setattr(made._catalogue, "deadline", 1)
    with pytest.raises(TryAgain, match="hostile did not answer within 1 s; try again later"):
        made.search(request())


def test_the_first_provider_fails_and_the_next_one_answers(provider: Provider, slept: list[float]) -> None:
    with Provider() as broken:
        broken.search.always = Answer(504)
        add(provider, 13)
        settings = broken.settings("broken") + provider.settings("hostile")
        config = SourceConfig(("broken", "hostile"), provider_config=settings)
        with Sources(config, retries=RetryPolicy(3, sleep=slept.append, jitter=lambda: 0.0)) as made:
            found = made.search(request())
            assert found.provider == "hostile"
            assert len(found.items) == 1
            assert found.warnings == ["broken failed, the next provider was asked: broken is busy or broken (504); try again later"]
            assert slept == [1.0, 2.0]
            assert len(broken.requests) == 3
            counted = made.count(request())
            assert (counted.products, counted.provider, len(counted.warnings)) == (1, "hostile", 1)
            with pytest.raises(TryAgain, match="broken is busy"):
                made.search(request(provider="broken"))
            provider.search.always = Answer(401)
            with pytest.raises(CredentialsRefused, match=r"hostile refuses the login.*before: broken failed"):
                made.search(request())


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (Answer(401), CredentialsRefused, "set or renew its credentials"),
        (Answer(403), CredentialsRefused, "hostile refuses the login"),
        (Answer(429), TryAgain, "had enough requests"),
        (Answer(500), TryAgain, "busy or broken"),
        (Answer(504), TryAgain, "busy or broken"),
        (Answer(404), NotThere, "mend its address"),
        (Answer(400), Exception, "refuses the search"),
        (Stall(), TryAgain, "sent nothing for 0.3 s"),
    ],
)
def test_failures_say_who_and_what_next(provider: Provider, sources: Make, answer: Answer | Stall, error: type, said: str) -> None:
    provider.search.always = answer
    with pytest.raises(error, match=said) as caught:
        sources(timeout=QUICK if isinstance(answer, Stall) else 10).search(request())
    assert "hostile" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(provider.requests) == (3 if isinstance(caught.value, TryAgain) else 1)


def test_a_failure_that_passes_is_not_noticed(provider: Provider, sources: Make, slept: list[float]) -> None:
    add(provider, 13)
    provider.search.faults = [Answer(429, {"Retry-After": "11"}), Answer(503)]
    found = sources().search(request())
    assert len(found.items) == 1
    assert found.warnings == []
    assert slept == [11.0, 2.0]


def test_a_page_that_fails_is_asked_for_again(provider: Provider, sources: Make, slept: list[float]) -> None:
    provider.page_cap = 7
    for day in range(1, 30):
        add(provider, day)
    provider.search.faults = [None, None, Answer(503), None, Answer(503)]
    assert len(sources().search(request()).items) == 29
    assert slept == [1.0, 1.0]


def test_a_provider_that_is_not_there_may_come_back(provider: Provider, slept: list[float]) -> None:
    settings = provider.settings("gone").replace(provider.url, "http://127.0.0.1:9")
    with (
        Sources(SourceConfig(("gone",), provider_config=settings), retries=RetryPolicy(2, sleep=slept.append)) as made,
        pytest.raises(TryAgain, match="gone"),
    ):
        made.search(request())


def test_what_nobody_offers_is_refused_without_asking_the_web(provider: Provider, sources: Make) -> None:
    with pytest.raises(BadInput, match=r"provider 'nobody' is not known; known are .*hostile"):
        sources().search(request(provider="nobody"))
    with pytest.raises(BadInput, match="NO_SUCH_COLLECTION is not offered by hostile"):
        sources().search(request(collection="NO_SUCH_COLLECTION"))
    with pytest.raises(CredentialsRefused, match="wekeo_main answers only with a login"):
        sources().search(request(provider="wekeo_main"))
    assert provider.requests == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"provider_config": "a: ["}, "not YAML \\(line 1\\)"),
        ({"provider_config": "just text"}, "must be a YAML mapping"),
        ({"provider_config": "a: text"}, "must be a YAML mapping"),
        ({"credentials": {"nobody": {"username": "u"}}}, "which is not known"),
        ({"credentials": {"hostile": {"username": "u"}}}, "which takes none"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(provider: Provider, config: dict, said: str) -> None:
    settings = SourceConfig(**{"providers": ("hostile",), "provider_config": provider.settings("hostile"), **config})
    with pytest.raises(BadInput, match=said):
        Sources(settings).search(request())
