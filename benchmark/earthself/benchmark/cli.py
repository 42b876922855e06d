"""The command `earthself-suggest`: measure the machine at hand, keep what was measured and what clouds offer, and say where to run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from earthself.benchmark.availability_command import data
from earthself.benchmark.errors import BadSetting
from earthself.benchmark.offers.commands import app as offers
from earthself.benchmark.options import Database, errors
from earthself.benchmark.own_step_command import profile
from earthself.benchmark.samples import FAILED, Sample, read, write
from earthself.benchmark.suggestion.commands import answer, report
from earthself.data.terminal import Json, progress, say

app = typer.Typer(name="earthself-suggest", help="EarthSelf's Cloud Suggest Engine.", no_args_is_help=True, add_completion=False)
app.command()(answer)
app.command()(report)
app.command()(data)
app.command()(profile)
app.add_typer(offers, name="offers")


@app.command()
def probe(
    names: Annotated[list[str] | None, typer.Argument(help="Names of probes; else all whose place is named.", show_default=False)] = None,
    *,
    cloud: Annotated[str, typer.Option(help="Whose machine this is, such as ovh.")] = "",
    region: Annotated[str, typer.Option(help="In which region of that cloud.")] = "",
    zone: Annotated[str, typer.Option(help="In which zone of it.")] = "",
    offer: Annotated[str, typer.Option(help="What the cloud calls such a machine, such as b3-8.")] = "",
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="How often each probe measures; with fewer than 5 nothing is trusted.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long a repeat measures, where that is a matter of choice.")] = 5.0,
    megabytes: Annotated[int, typer.Option(min=1, help="How much a repeat writes to the disk.")] = 1024,
    scratch: Annotated[Path, typer.Option(exists=True, file_okay=False, writable=True, help="Folder on the disk to measure.")] = Path(),
    server: Annotated[str | None, typer.Option(help="host[:port] of an iperf3 that listens (iperf3 -s).")] = None,
    storage: Annotated[str | None, typer.Option(help="s3://PROFILE@bucket/prefix that may be written (docs/storage.md).")] = None,
    object_mib: Annotated[int, typer.Option(min=1, max=1024, help="Size of the large object there, MiB.")] = 32,
    raster: Annotated[str | None, typer.Option(help="Address of a COG at the place that is measured.")] = None,
    jp2: Annotated[str | None, typer.Option(help="Address of a JPEG2000 there.")] = None,
    provider: Annotated[str | None, typer.Option(help="EODAG provider to ask; its settings: EARTHSELF_SOURCES (docs/steps.md).")] = None,
    collection: Annotated[str | None, typer.Option(help="EODAG collection that is wanted of it; else Sentinel-2 L2A.")] = None,
    area: Annotated[str | None, typer.Option(help="Where: WEST,SOUTH,EAST,NORTH in degrees.")] = None,
    period: Annotated[str | None, typer.Option(help="When: FIRST/LAST, two dates; the last is not part of it.")] = None,
    order: Annotated[float | None, typer.Option(min=0.1, help="Each repeat orders an offline product, and waits so many minutes.")] = None,
    side: Annotated[int, typer.Option(min=1024, max=10_980, help="Pixels along each side of the products that steps are given.")] = 2048,
    namespace: Annotated[str | None, typer.Option(help="Namespace where a pod may be made (KUBECONFIG, or the pod we are in).")] = None,
    image: Annotated[str | None, typer.Option(help="Image of that pod, with the program sleep.")] = None,
    make_host: Annotated[str | None, typer.Option(help="Command that makes a host, and ends when it is ready. It may cost money.")] = None,
    remove_host: Annotated[str | None, typer.Option(help="Command that removes it, run after each repeat.")] = None,
    make_cluster: Annotated[str | None, typer.Option(help="The same for a cluster.")] = None,
    remove_cluster: Annotated[str | None, typer.Option(help="Command that removes the cluster.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the samples to this file, too (newline-delimited JSON).")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the probes, and measure nothing.")] = False,
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """Measure this machine, and keep the samples in the platform's database; shows medians with what they can be trusted for."""
    from earthself.benchmark.probes import probes
    from earthself.benchmark.probing import Probe, Run, Setting
    from earthself.benchmark.tables import Samples

    with errors(as_json):
        chosen = probes(names or ())
        if listed:
            _list(chosen, as_json)
            return
        if out is not None and not out.absolute().parent.is_dir():
            raise BadSetting(f"{out.absolute().parent} is no folder; make it, or name another file")
        place = {"cloud": cloud.lower(), "region": region, "zone": zone, "offer": offer}
        setting = Setting(
            scratch.absolute(), seconds=seconds, megabytes=megabytes, server=server,
            storage=storage, object_mib=object_mib, raster=raster, jp2=jp2,
            provider=provider, collection=collection or Setting.collection, area=area, period=period, order_minutes=order,
            side=side, namespace=namespace, image=image,
            make_host=make_host, remove_host=remove_host, make_cluster=make_cluster, remove_cluster=remove_cluster,
        )  # fmt: skip
        run = Run(place, setting, repeats)
        if not names:
            chosen = [each for each in chosen if each.fits(setting)]
        found: list[Sample] = []
        with Samples(database_url) as kept, progress("measuring") as show:

            def note(measured: Probe, number: int) -> None:
                show(chosen.index(measured) * repeats + number, len(chosen) * repeats)

            # Kept probe by probe: whoever ends this early keeps what was measured until then.
            for each in chosen:
                samples = list(run.samples([each], note))
                kept.add(samples)
                found += samples
        if out is not None:
            out.write_text("".join(write(found)), encoding="utf-8")
        _show(run.uri, found, as_json)
        if all(sample.metric == FAILED for sample in found):
            raise typer.Exit(1)


@app.command(name="import")
def bring(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Newline-delimited JSON, also PerfKitBenchmarker's.")],
    *,
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """Bring samples in from files, all or none; those that are kept already are left as they are."""
    from earthself.benchmark.tables import Samples

    with errors(as_json), Samples(database_url) as kept:
        samples = [sample for file in files for sample in _read(file)]
        new = kept.add(samples)
        say({"read": len(samples), "new": new} if as_json else f"{len(samples)} samples read, {new} of them are new")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="File to write; - for standard output.")],
    *,
    test: Annotated[str | None, typer.Option(help="Of this probe only.")] = None,
    cloud: Annotated[str | None, typer.Option(help="Of this cloud only.")] = None,
    offer: Annotated[str | None, typer.Option(help="Of this kind of machine only.")] = None,
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """Write samples in PerfKitBenchmarker's record, a line each."""
    from earthself.benchmark.tables import Samples, Wanted

    with errors(as_json), Samples(database_url) as kept:
        lines = write(kept.find(Wanted(test=test, cloud=cloud, offer=offer)))
        if str(file) == "-":
            sys.stdout.writelines(lines)
            return
        part = file.with_name(f".{file.name}.part")
        try:
            with part.open("w", encoding="utf-8") as to:
                number = sum(bool(to.write(line)) for line in lines)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        say({"written": number} if as_json else f"{number} samples written to {file}")


def _read(file: Path) -> Iterable[Sample]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        yield from read(lines, str(file))


def _list(chosen: Sequence[Any], as_json: bool) -> None:
    for each in chosen:
        measures = [{"name": one.name, "unit": one.unit, "better": one.better} for one in each.measures]
        if as_json:
            say({"name": each.name, "about": each.about, "needs": list(each.needs), "measures": measures})
        else:
            say(f"{each.name:16} {each.about}: {', '.join(f'{one.name} ({one.unit})' for one in each.measures)}")


def _show(run: str, samples: Sequence[Sample], as_json: bool) -> None:
    from earthself.benchmark.statistics import NOISY, summary

    said: list[dict[str, Any]] = []
    for (test, metric), group in _by_measure(samples).items():
        if metric == FAILED:
            said += [{"test": test, "failed": one.labels["reason"], "error": one.labels["error"]} for one in group]
            continue
        all_of = summary([one.value for one in group])
        known = all_of.count > 1 and abs(all_of.low) < float("inf")
        said.append({
            "test": test, "metric": metric, "unit": group[0].unit, "median": all_of.median, "count": all_of.count,
            "low": all_of.low if known else None, "high": all_of.high if known else None, "trusted": all_of.trusted,
        })  # fmt: skip
    if as_json:
        say({"run_uri": run, "results": said})
        return
    for one in said:
        name = f"{one['test']} {one.get('metric', '')}"
        if "failed" in one:
            say(f"{name:32} {one['failed']}: {one['error']}")
            continue
        between = "interval unknown" if one["low"] is None else f"{one['low']:.4g} to {one['high']:.4g}"
        why = "" if one["trusted"] else f"  not trusted: {'too few repeats' if one['low'] is None else f'varies by more than {NOISY:.0%}'}"
        say(f"{name:32} {one['median']:>10.4g} {one['unit']} ({between}, {one['count']} times){why}")


def _by_measure(samples: Sequence[Sample]) -> dict[tuple[str, str], list[Sample]]:
    found: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.test, sample.metric), []).append(sample)
    return found


def main() -> None:
    """Run the command."""
    app()
