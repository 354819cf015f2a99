"""VAE, vocoder, spectrogram, and the way from a file to the VAE's input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soundfile
import torch
from torch import Tensor

from talim.backbones.mustango.load import build_mel_vae
from talim.backbones.mustango.vae_vocoder import LOG_FLOOR, MelConfig, MelSpectrogram, MelVAE, normalise, pad_or_trim
from tests.golden_mustango.cases import Check, Golden, Parts, compare, prefixes

TOLERANCE, MEL_TOLERANCE = 1e-5, 1e-4


def load(golden: Golden) -> MelVAE:
    """The small VAE with its vocoder."""
    config = golden.json("vae_config.json")
    mel = MelConfig.of(golden.json("stft_config.json"))
    return build_mel_vae(config.get("vae_config", config), golden.tensors("vae.safetensors"), mel, "golden").eval()


@torch.no_grad()
def vae(golden: Golden, sound: MelVAE) -> Iterator[Check]:
    """Posterior, scaled latents, and back."""
    theirs = golden.tensors("vae_cases.safetensors")
    for case in prefixes(theirs, ".in."):
        found = sound.posterior(theirs[f"{case}.in.mel"])
        named = {"moments": found.parameters, "mean": found.mean, "logvar": found.logvar, "std": found.std}
        latents = sound.scale_latents(found.mean + found.std * theirs[f"{case}.enc.noise"])
        for name, ours in (named | {"scaled_latent": latents}).items():
            yield compare(f"vae {case} {name}", ours, theirs[f"{case}.enc.{name}"], TOLERANCE)
        mel = sound.decode_mel(theirs[f"{case}.enc.scaled_latent"])
        yield compare(f"vae {case} decoded", mel, theirs[f"{case}.dec.mel"], TOLERANCE)
    if "clamp.moments" in theirs:
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        clamped = DiagonalGaussianDistribution(theirs["clamp.moments"])
        yield compare("vae clamp logvar", clamped.logvar, theirs["clamp.logvar"], TOLERANCE)
        relative = ((clamped.std - theirs["clamp.std"]) / theirs["clamp.std"]).abs().max().item()
        yield Check("vae clamp std, relative", relative, TOLERANCE)


@torch.no_grad()
def vocoder(golden: Golden, sound: MelVAE) -> Iterator[Check]:
    """Waves as floats, and as the reference's 16-bit integers within one step."""
    theirs = golden.tensors("vocoder_cases.safetensors")
    for case in prefixes(theirs, ".in."):
        wave = sound.vocode(theirs[f"{case}.in.mel"].transpose(1, 2)[:, None])
        yield compare(f"vocoder {case}", wave[:, None], theirs[f"{case}.out.wave_float"], TOLERANCE)
        yield compare(f"vocoder {case} int16", integers(wave), theirs[f"{case}.out.wave_int16"], 1.0)
    if "decode_chain.latents" in theirs:
        mel = sound.decode_mel(theirs["decode_chain.latents"])
        yield compare("decode chain mel", mel, theirs["decode_chain.mel"], TOLERANCE)
        wave = sound.vocode(mel)
        yield compare("decode chain int16", integers(wave), theirs["decode_chain.wave_int16"], 1.0)


def integers(wave: Tensor) -> Tensor:
    return (wave.double() * 32768).trunc().clamp(-32768, 32767)


@torch.no_grad()
def spectrogram(golden: Golden) -> Iterator[Check]:
    """Log-mel, and a stereo file all the way; the reference hears only its left channel."""
    theirs = golden.tensors("stft_cases.safetensors")
    mel = MelSpectrogram(MelConfig.of(golden.json("stft_config.json")))
    yield compare("mel basis", mel.basis, theirs["mel_basis"], TOLERANCE)
    wave = theirs["wave"]
    yield compare("log mel", mel(wave), theirs["log_mel"], MEL_TOLERANCE)
    magnitudes = mel.magnitudes(wave)
    energy = magnitudes.square().sum(dim=1).sqrt()
    yield compare("energy", energy, theirs["energy"], 1e-5 * max(1.0, energy.max().item()))
    key = "log_magnitude_row0_first40frames"
    # as magnitudes: the logarithm of a bin near silence is rounding noise
    loudest = float(theirs[key].exp().max())
    ours = magnitudes[:1, :, :40].clamp(min=LOG_FLOOR)
    yield compare("magnitudes", ours, theirs[key].exp(), 1e-5 * max(1.0, loudest))
    count = int(theirs["odd_len.n_samples"])
    yield compare("log mel, odd length", mel(wave[:1, :count]), theirs["odd_len.log_mel"], MEL_TOLERANCE)


@torch.no_grad()
def wave_file(golden: Golden, sound: MelVAE) -> Iterator[Check]:
    """A file to the VAE's input."""
    theirs = golden.tensors("stft_cases.safetensors")
    samples, _ = soundfile.read(golden.folder / "synthetic_stereo_16k.wav", dtype="float32")
    left = np.ascontiguousarray(samples[:, 0])
    for frames in (1024, 128):
        prefix = f"wavfile.t{frames}"
        wave = torch.from_numpy(pad_or_trim(normalise(left), frames * 160))[None]
        for key, ours in ((f"{prefix}.waveform", wave), (f"{prefix}.fbank", sound.spectrogram(left, frames))):
            for name in (name for name in theirs if name.startswith(key)):
                yield compare(name, ours[:, : theirs[name].shape[1]], theirs[name], MEL_TOLERANCE)


def all_checks(golden: Golden) -> Parts:
    """Whatever the folder has."""
    stft = golden.has("stft_cases.safetensors", "stft_config.json")
    if stft:
        yield "spectrogram", spectrogram(golden)
    if not golden.has("vae_config.json", "vae.safetensors", "stft_config.json"):
        return
    sound = load(golden)
    if golden.has("vae_cases.safetensors"):
        yield "vae", vae(golden, sound)
    if golden.has("vocoder_cases.safetensors"):
        yield "vocoder", vocoder(golden, sound)
    if stft and golden.has("synthetic_stereo_16k.wav"):
        yield "wave file", wave_file(golden, sound)
