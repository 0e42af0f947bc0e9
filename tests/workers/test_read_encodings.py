"""Archives, pickles and headers that lie below the level of tensors are refused with the reason, and run nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_encodings import encodings

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault
from workers.readers.checkpoint import read_tensors

CASES = encodings(Path("marker"))


@pytest.mark.parametrize("case", CASES)
def test_a_lie_in_the_encoding_is_refused_with_its_reason(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = CASES[case]
    Path("upload").write_bytes(content)
    with pytest.raises(JobFault) as caught:
        read_tensors(Path("upload"))
    assert caught.value.code is FailureCode.CHECKPOINT_INVALID
    assert message in caught.value.detail
    assert not Path("marker").exists()
