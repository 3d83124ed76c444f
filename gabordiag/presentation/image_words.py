"""What is said about many images: how many, which were skipped and why, whose landscape traps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

# Skipped files that are listed; result.json has all.
_MOST_LISTED = 20


def images_of(result: Json) -> Json | None:
    """Returns the landscape that says which images a result is about, or None with a single one."""
    if "cases" in result:
        return images_of(next(iter(result["cases"].values())))
    landscape: Json = result if "critical_points" in result and "unit" in result else {}
    landscape = landscape or result.get("landscape") or {}
    return landscape if landscape.get("images") else None


def image_sentences(landscape: Json, start: str) -> list[str]:
    """Returns how many images there are, and what their own landscapes say of the start.

    Args:
        landscape: With `images`.
        start: The start, for people.
    """
    images = landscape["images"]
    used, skipped = images["used"], len(images["skipped"])
    text = f"The loss is the mean over {_count(used, 'image')}, each counting the same."
    if skipped:
        text += f" {_count(skipped, 'file')} could not be used and {_were(skipped)} skipped:"
    return [text, *([_survey(images, start)] if "surveyed" in images else [])]


def skipped_lines(landscape: Json) -> tuple[str, ...]:
    """Returns each skipped file with the reason."""
    skipped = landscape["images"]["skipped"]
    lines = [f"{entry['file']} {entry['why']}" for entry in skipped[:_MOST_LISTED]]
    if len(skipped) > _MOST_LISTED:
        lines.append(f"and {len(skipped) - _MOST_LISTED} more, see result.json")
    return tuple(lines)


def batch_label(run: Json, before: str = "") -> str:
    """Returns what a run drew at every step, where runs differ in that; else nothing."""
    if run.get("batch_size") is None:
        return ""
    return before + (f"batches of {run['batch_size']}" if run["batch"] else "all images")


def _survey(images: Json, start: str) -> str:
    surveyed, spurious, reaching = images["surveyed"], images["spurious"], images["to_target"]
    if surveyed < images["used"]:
        among = f"{surveyed} images, an even sample of the {images['used']},"
    elif surveyed == 1:
        among = "one image"
    else:
        among = f"{surveyed} images"
    if reaching == surveyed:
        return (
            f"Taken one by one, none of {among} has a spurious minimum near the start: downhill "
            f"from {start} the loss of each leads to the target."
        )
    has, its = ("has", "its") if spurious == 1 else ("have", "their")
    text = (
        f"Taken one by one, {spurious} of {among} {has} a spurious minimum near the start: "
        f"downhill from {start} {its} loss leads to a minimum that is not the target; of "
        f"{reaching} it leads to the target."
    )
    uncertified = sum(not image["certified"] for image in images["near_start"])
    if uncertified:
        text += f" For {uncertified} of them the list of minima is not proven complete."
    return text


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
