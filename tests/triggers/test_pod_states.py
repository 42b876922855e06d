"""What states of a pod mean, as clusters have shown them."""

from __future__ import annotations

import pytest
from earthself.triggers.pods.look import after, look

SCHEDULED = [{"type": "PodScheduled", "status": "True"}]


def pod(*, container=None, other=None, deleted=None, grace=30, **status):
    states = [{"name": "mesh", "state": other}] if other else []
    if container is not None:
        states.append({"name": "step", "image": "mine:1", "state": container})
    metadata = {"name": "p", "uid": "u"} | ({"deletionTimestamp": deleted, "deletionGracePeriodSeconds": grace} if deleted else {})
    return {"metadata": metadata, "status": {"phase": "Running", "conditions": SCHEDULED, "containerStatuses": states} | status}


def ended(code=0, reason="Completed", finished="2026-01-01T10:00:30Z", **more):
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": "2026-01-01T10:00:00Z", "finishedAt": finished} | more}


def waiting(reason, message=""):
    return {"waiting": {"reason": reason, "message": message}}


def unschedulable(message):
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"metadata": {}, "status": {"phase": "Pending", "conditions": [condition]}}


def test_the_steps_own_end_counts_and_no_sidecars():
    seen = look(pod(container=ended(message='{"status":"done"}'), other={"running": {}}), "step")
    assert (seen.stage, seen.exit_code, seen.seconds, seen.said) == ("ended", 0, 30.0, '{"status":"done"}')
    assert look(pod(container={"running": {}}, other=ended()), "step").stage == "running"


def test_killed_for_memory_is_told():
    assert look(pod(container=ended(137, "OOMKilled")), "step").killed_for_memory
    assert not look(pod(container=ended(137, "Error")), "step").killed_for_memory


@pytest.mark.parametrize("reason", ["Evicted", "DeadlineExceeded", "Preempting", "NodeLost"])
def test_a_pod_that_the_cluster_ended_is_no_success_whatever_its_step_said(reason):
    seen = look(pod(container=ended(0), phase="Failed", reason=reason, message="The node was low on memory."), "step")
    assert (seen.stage, seen.why) == ("interrupted", f"{reason} The node was low on memory.")


@pytest.mark.parametrize("deleted", ["2026-01-01T10:00:45Z", "2026-01-01T10:01:30Z"])
def test_an_exit_seen_only_after_a_deletion_is_an_answer_to_it(deleted):
    """Whichever time is the later one: the step's is of the node's clock, the deletion's of the server's."""
    assert look(pod(container=ended(0), deleted=deleted), "step").stage == "interrupted"


def test_a_pod_that_is_being_deleted_before_its_step_ended_is_interrupted():
    assert look(pod(container={"running": {}}, deleted="2026-01-01T10:00:45Z"), "step").stage == "interrupted"


@pytest.mark.parametrize(
    ("reason", "message", "stage"),
    [
        ("ErrImagePull", 'failed to resolve reference "r/mine:1": r/mine:1: not found', "hopeless"),
        ("ImagePullBackOff", 'Back-off pulling image "r/mine:1": manifest unknown', "hopeless"),
        ("ErrImagePull", "pull access denied, repository does not exist or may require authorization", "hopeless"),
        ("ErrImageNeverPull", "", "hopeless"),
        ("InvalidImageName", "couldn't parse image reference", "hopeless"),
        ("ErrImagePull", "unexpected status code 429 Too Many Requests - toomanyrequests: not found in cache", "starting"),
        ("ErrImagePull", "dial tcp 127.0.0.1:5000: connect: connection refused", "starting"),
        ("ImagePullBackOff", 'Back-off pulling image "r/mine:1"', "starting"),
        ("CreateContainerConfigError", 'secret "es-t" not found', "starting"),
        ("CreateContainerError", "no such device", "hopeless"),
        ("ContainerCreating", "", "starting"),
    ],
)
def test_what_holds_a_container_back_says_whether_waiting_helps(reason, message, stage):
    seen = look(pod(container=waiting(reason, message), phase="Pending"), "step")
    assert seen.stage == stage
    if stage == "hopeless":
        assert reason in seen.why


@pytest.mark.parametrize("name", ["registry:5000/mine:1", "r/mine:429", "r/timeout/rate-limit:503", "127.0.0.1:50341/mine:1"])
def test_an_image_is_missing_whatever_its_name(name):
    state = pod(container=waiting("ErrImagePull", f'failed to resolve reference "{name}": {name}: not found'), phase="Pending")
    state["status"]["containerStatuses"][0]["image"] = name
    assert look(state, "step").stage == "hopeless"


def test_the_registrys_words_stand_while_the_node_pauses():
    refused = look(pod(container=waiting("ErrImagePull", "429 Too Many Requests"), phase="Pending"), "step")
    pauses = look(pod(container=waiting("ImagePullBackOff", 'Back-off pulling image "mine:1"'), phase="Pending"), "step")
    assert after(refused, pauses).why == "ErrImagePull: 429 Too Many Requests"
    assert after(after(refused, pauses), pauses).why == "ErrImagePull: 429 Too Many Requests"
    prepared = look(pod(container=waiting("ContainerCreating"), phase="Pending"), "step")
    assert after(refused, prepared) == prepared
    assert after(prepared, pauses) == pauses


@pytest.mark.parametrize(
    ("message", "patient"),
    [
        ("0/3 nodes are available: 3 Insufficient cpu.", True),
        ("0/3 nodes are available: 1 Insufficient memory, 2 Too many pods.", True),
        ("0/3 nodes are available: 3 node(s) didn't match node selector.", False),
        ("0/3 nodes are available: 3 node(s) had taint {gpu: true}, that the pod didn't tolerate.", False),
    ],
)
def test_full_nodes_are_waited_for_without_a_limit(message, patient):
    seen = look(unschedulable(message), "step")
    assert (seen.stage, seen.why, seen.patient) == ("queued", message, patient)


def test_what_ran_before_the_step_and_failed_is_its_end():
    before = [{"name": "stage-in", "state": ended(75, "Error", message="the bucket is busy")}]
    seen = look(pod(phase="Failed", initContainerStatuses=before), "step")
    assert (seen.stage, seen.exit_code, seen.said, seen.why) == ("ended", 75, "the bucket is busy", "stage-in failed")


def test_a_program_that_the_image_does_not_have_never_starts():
    seen = look(pod(container=ended(128, "StartError", message="exec: mine: not found")), "step")
    assert (seen.stage, "exec: mine: not found" in seen.why) == ("hopeless", True)


def test_a_new_pod_has_been_seen_by_nobody():
    assert look({"metadata": {}, "status": {}}, "step").stage == "queued"


@pytest.mark.parametrize(
    ("image_id", "image"),
    [
        ("r.example.org/mine@sha256:ab", "r.example.org/mine@sha256:ab"),
        ("docker-pullable://r.example.org/mine@sha256:ab", "r.example.org/mine@sha256:ab"),
        ("sha256:ab", "mine:1@sha256:ab"),
        ("", "mine:1"),
    ],
)
def test_the_image_is_named_with_the_digest_that_the_node_found(image_id, image):
    found = pod(container=ended())
    found["status"]["containerStatuses"][0]["imageID"] = image_id
    assert look(found, "step").image == image
