import pytest
import torch

from model.hardware import detect_hardware, has_bf16_units


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu sse2 avx2 avx512f", False),
        ("fpu avx2 avx512_bf16", True),
        ("fpu amx_tile amx_bf16", True),
        ("fpu avx512_bf16x", False),
        ("", False),
    ],
)
def test_bf16_units_are_read_from_the_processors_flags(flags, expected):
    assert has_bf16_units(f"processor : 0\nmodel name : Some\nflags\t\t: {flags}\nbugs : amx_bf16\n") is expected


def test_a_machine_that_says_nothing_has_no_bf16_units():
    assert has_bf16_units("") is False


def test_the_choice_is_one_that_this_machine_can_run():
    found = detect_hardware()
    assert found.to_json()["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert found.decode_device == ("mixed" if torch.cuda.is_available() else "cpu")
    assert found.num_cores >= 1
    assert found.torch_dtype in (torch.float32, torch.bfloat16)
