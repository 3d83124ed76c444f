"""Many images in words: how many, which were skipped and why, which trap the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gabordiag.landscape.critical import Landscape
from gabordiag.presentation.blocks import Block, Heading, Listing, Paragraph
from gabordiag.wording import counted

Json = Mapping[str, Any]

# Skipped files that are listed; result.json has all.
_MOST_LISTED = 20


def image_blocks(landscape: Landscape) -> list[Block]:
    """Returns how many images a landscape is the mean over, and what their own landscapes show.

    Nothing of a single image.
    """
    images = landscape.images
    if not images:
        return []
    used, skipped = images["used"], images["skipped"]
    text = f"The loss is the mean over {counted(used, 'image', 'images')}, weighted equally."
    lines = [f"{entry['file']} {entry['why']}" for entry in skipped[:_MOST_LISTED]]
    if skipped:
        were = "was" if len(skipped) == 1 else "were"
        text += f" {counted(len(skipped), 'file', 'files')} could not be used and {were} skipped:"
    if len(skipped) > _MOST_LISTED:
        lines.append(f"and {len(skipped) - _MOST_LISTED} more, see result.json")
    blocks: list[Block] = [Heading("The images"), Paragraph(text)]
    blocks += [Listing(tuple(lines))] if skipped else []
    if "surveyed" in images:
        parameter = landscape.parameter
        blocks.append(Paragraph(_survey(images, parameter.show(parameter.start))))
    return blocks


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
