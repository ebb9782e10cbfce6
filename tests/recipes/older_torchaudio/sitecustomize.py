"""Puts back what SpeechBrain 1.0 asks torchaudio for and torchaudio 2.9 no longer has.

Python imports it in every process that has this folder on its path: in the native run as in ours.
"""

import torchaudio

if not hasattr(torchaudio, "list_audio_backends"):
    import soundfile
    import torch

    def _load(path, frame_offset=0, num_frames=-1, channels_first=True, **_):
        samples, rate = soundfile.read(
            str(path), num_frames, frame_offset, dtype="float32", always_2d=True
        )
        waveform = torch.from_numpy(samples)
        return (waveform.T.contiguous() if channels_first else waveform), rate

    torchaudio.list_audio_backends = lambda: ["soundfile"]
    torchaudio.load = _load
