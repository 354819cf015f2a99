"""Makes music with the graphs in this folder: python generate.py slow flute, raga Yaman --seconds 10 --out music.wav

It needs numpy, onnxruntime (with --runtime openvino that), and where the folder holds a tokenizer.json, tokenizers.
"""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MOST_BYTES = 255  # of a prompt that is read byte by byte


class Music:
    """The graphs of a folder: text.onnx (what a prompt says to each layer), decoder.onnx (a step), codec.onnx."""

    def __init__(self, folder: Path | str, runtime: str = "onnxruntime") -> None:
        self.folder, self.runtime = Path(folder), runtime
        self.settings: dict[str, Any] = json.loads((self.folder / "settings.json").read_text(encoding="utf-8"))
        self.text, self.decoder, self.codec = (self._session(name) for name in ("text", "decoder", "codec"))

    def _session(self, name: str) -> Any:
        path = str(self.folder / f"{name}.onnx")
        if self.runtime == "openvino":
            return OpenVinoSession(path)
        import onnxruntime

        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def tokens(self, prompt: str) -> np.ndarray:
        """The text encoder's tokens of a prompt, int64 [1, L]."""
        if (self.folder / "tokenizer.json").is_file():
            from tokenizers import Tokenizer

            ids = Tokenizer.from_file(str(self.folder / "tokenizer.json")).encode(prompt).ids
        else:  # bytes after three special ids, of which 1 is the end
            ids = [3 + byte for byte in prompt.encode()[:MOST_BYTES].decode(errors="ignore").encode()] + [1]
        return np.array([ids], np.int64)

    def begin(self, prompt: str, guided: bool = True) -> Decoding:
        """A piece before its first step; with guidance its second row hears nothing."""
        rows = [0, 1] if guided else [0]
        if not prompt.strip():
            rows = [1]  # nothing to be guided to
        given = self.text.run(None, {"tokens": self.tokens(prompt or " ")})
        names = [output.name for output in self.text.get_outputs()]
        conditions = {name: value[rows] for name, value in zip(names, given, strict=True)}
        return Decoding(self.decoder, conditions, len(rows))

    def codes(
        self,
        prompt: str,
        seconds: float = 10.0,
        seed: int = 0,
        guidance: float = 3.0,
        temperature: float = 1.0,
        top_k: int = 250,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> np.ndarray:
        """Codes of a piece, int64 [K, T]; temperature 0 takes the most likely ones, top_k 0 draws from all."""
        settings, delays = self.settings, self.settings["delays"]
        frames, longest = max(1, round(seconds * settings["frame_rate_hz"])), settings["most_frames"]
        if frames > longest:
            raise SystemExit(f"{seconds:g} s is too long: at most {longest / settings['frame_rate_hz']:g} s")
        random = np.random.default_rng(seed)
        piece = self.begin(prompt, guidance > 1)
        # codebook k is delayed by delays[k] steps; the special token stands where there is no code
        sequence = np.full((len(delays), frames + max(delays) + 1), settings["special_token"], np.int64)
        for step in range(frames + max(delays)):
            logits = piece.step(sequence[:, step])
            if len(logits) == 2:
                logits = logits[1:] + guidance * (logits[:1] - logits[1:])
            drawn = draw(logits[0], random, temperature, top_k)
            for book, delay in enumerate(delays):
                if 0 <= step - delay < frames:
                    sequence[book, step + 1] = drawn[book]
            progress(step + 1, frames + max(delays))
        return np.stack([sequence[book, delay + 1 : delay + 1 + frames] for book, delay in enumerate(delays)])

    def sound(self, codes: np.ndarray) -> np.ndarray:
        """Audio of codes [K, T], float32 [channels, samples]; turned down where it would clip."""
        audio = self.codec.run(None, {"codes": codes})[0]
        return audio / max(1.0, float(np.abs(audio).max()))

    def save(self, audio: np.ndarray, path: Path | str) -> None:
        """Write audio [channels, samples] as a WAV file of 16 bits whose tags say that it was generated."""
        rate, channels = self.settings["rate_hz"], len(audio)
        data = (audio.T * 32767).round().astype("<i2").tobytes()
        text = self.settings["software"].encode() + b"\0"
        info = b"INFOISFT" + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
        form = struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
        chunks = b"".join(
            name + struct.pack("<I", len(body)) + body
            for name, body in ((b"fmt ", form), (b"LIST", info), (b"data", data))
        )
        Path(path).write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)


class OpenVinoSession:
    """A graph in OpenVINO, with what is used here of a session of onnxruntime."""

    def __init__(self, path: str) -> None:
        import openvino  # pyright: ignore[reportMissingImports]

        # float32 also on CPUs that have bfloat16; attention in code of its own making (snippets) is wrong in OpenVINO
        # 2026.4 from the eighth frame on
        options = {"INFERENCE_PRECISION_HINT": "f32", "SNIPPETS_MODE": "DISABLE"}
        self.graph = openvino.compile_model(path, "CPU", options)

    def run(self, _names: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = self.graph(given)
        return [found[output] for output in self.graph.outputs]

    def get_inputs(self) -> list[Any]:
        return [Tensor(each) for each in self.graph.inputs]

    def get_outputs(self) -> list[Any]:
        return [Tensor(each) for each in self.graph.outputs]


class Tensor:
    """Name and shape of an input or output; OpenVINO does not keep the names of sizes: the first is the batch."""

    def __init__(self, port: Any) -> None:
        self.name = port.any_name
        sizes = enumerate(port.partial_shape)
        self.shape = [size.get_length() if size.is_static else ("past" if axis else "batch") for axis, size in sizes]


class Decoding:
    """A piece under way: what it hears, and the state after its steps."""

    def __init__(self, decoder: Any, conditions: dict[str, np.ndarray], rows: int) -> None:
        self.decoder, self.conditions, self.rows, self.position = decoder, conditions, rows, 0
        length = next(iter(conditions.values())).shape[2]
        self.conditions["text_mask"] = np.ones((rows, length), bool)
        sizes: dict[Any, Any] = {"batch": rows, "past": 0}
        self.state = {  # nothing before the first step
            each.name: np.zeros([int(sizes.get(size, size)) for size in each.shape], np.float32)
            for each in decoder.get_inputs()
            if each.name.startswith("past.")
        }
        self.outputs = [output.name for output in decoder.get_outputs()]

    def step(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens int64 [K] of this step -> logits [rows, K, V] of the next one; the state moves on."""
        step = {"tokens": np.repeat(tokens[None], self.rows, 0), "position": np.array([self.position], np.int64)}
        values = self.decoder.run(None, {**step, **self.conditions, **self.state})
        found = dict(zip(self.outputs, values, strict=True))
        self.state = {name: found[name.replace("past.", "present.", 1)] for name in self.state}
        self.position += 1
        return found["logits"]


def draw(logits: np.ndarray, random: np.random.Generator, temperature: float, top_k: int) -> np.ndarray:
    """A code for each row of logits [K, V], int64 [K]."""
    if temperature == 0:
        return logits.argmax(axis=1)
    logits = logits.astype(np.float64) / temperature
    if 0 < top_k < logits.shape[1]:
        lowest = np.partition(logits, -top_k, axis=1)[:, -top_k, None]
        logits = np.where(logits < lowest, -np.inf, logits)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True)).cumsum(axis=1)
    drawn = random.random((len(weights), 1)) * weights[:, -1:]
    return np.minimum((weights <= drawn).sum(axis=1), logits.shape[1] - 1)


def main() -> None:
    """Make the piece that the command line asks for."""
    parser = argparse.ArgumentParser(description="Make a piece of music.")
    parser.add_argument("prompt", nargs="*", help="what it should sound like")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance", type=float, default=3.0, help="1 is off")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the most likely codes")
    parser.add_argument("--top-k", type=int, default=250, help="0 is off")
    parser.add_argument("--out", default="music.wav")
    parser.add_argument("--runtime", choices=["onnxruntime", "openvino"], default="onnxruntime")
    chosen = parser.parse_args()
    music = Music(Path(__file__).parent, chosen.runtime)
    options = (chosen.seconds, chosen.seed, chosen.guidance, chosen.temperature, chosen.top_k)
    music.save(music.sound(music.codes(" ".join(chosen.prompt), *options)), chosen.out)


if __name__ == "__main__":
    main()
