# SPDX-License-Identifier: GPL-2.0-or-later
"""The frames between node and helper VM while a command runs there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from snf_image_shared.shell import LARGEST, Frame, Unpacker, packed, packed_size, unpacked_size

frames = some.lists(some.tuples(some.sampled_from(Frame), some.binary(max_size=40)))


@given(frames, some.integers(1, 9))
def test_frames_come_out_as_they_went_in_however_they_are_cut(sent: list[tuple[Frame, bytes]], step: int) -> None:
    stream = b"".join(packed(kind, content) for kind, content in sent)
    unpacker = Unpacker()
    found = [frame for at in range(0, len(stream), step) for frame in unpacker.feed(stream[at : at + step])]
    assert found == sent


@pytest.mark.parametrize("stream", [b"?\0\0\0\0", b"\xff\0\0\0\0", b"i" + (LARGEST + 1).to_bytes(4, "big")])
def test_what_is_no_frame_is_refused_at_its_first_bytes(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"frame|Frame"):
        list(Unpacker().feed(stream))


def test_a_windows_size_is_four_bytes() -> None:
    assert packed_size(24, 80) == b"w\0\0\0\4\0\x18\0\x50"
    assert unpacked_size(b"\0\x18\0\x50") == (24, 80)
    with pytest.raises(ValueError, match="four bytes"):
        unpacked_size(b"\0\0\0")
