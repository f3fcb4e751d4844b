"""How often the engines behind `turnDetection: krisp` tell a whole sentence from one that is cut off.

python -m benchmarks.end_of_turn

The cut ones are all beginnings of the whole ones, so some of them could be whole sentences too ("I need a taxi"): no
engine can reach 100 % there. The words are given as they are, without a recogniser's errors or punctuation; the
voices are espeak-ng's, each text spoken on its own. This shows that the parts work; of people it says nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from statistics import median

import numpy as np

from providers.acoustic.base import Floats
from providers.acoustic.prosody import prosody
from providers.acoustic.smart_turn import SmartTurn, find_model, is_installed
from providers.base import Audio, ProviderError, TtsSpec
from providers.registry import Shared, make_tts
from turn.completeness import completeness, falling, sureness, waiting_time

SENTENCES = {
    "en": (
        "i need a taxi to the airport tomorrow morning",
        "could you tell me when the next train leaves",
        "my internet has been down since yesterday evening",
        "please cancel my appointment on friday",
        "i want to change the address on my account",
        "do you have anything available next week",
        "the invoice shows a charge that i did not make",
        "we are four adults and two children",
        "can i speak to someone in the billing department",
        "how much does it cost to send a parcel to spain",
        "i forgot my password and now i am locked out",
        "there is water coming through the ceiling",
    ),
    "de": (
        "ich brauche morgen früh ein taxi zum flughafen",
        "wann fährt der nächste zug nach hamburg",
        "bitte sagen sie meinen termin am freitag ab",
        "mein internet geht seit gestern abend nicht mehr",
        "können sie mich mit der buchhaltung verbinden",
        "wir sind vier erwachsene und zwei kinder",
    ),
    "es": (
        "necesito un taxi para mañana por la mañana",
        "a qué hora sale el próximo tren a sevilla",
        "quiero cancelar mi cita del viernes",
        "no funciona internet desde ayer por la noche",
        "somos cuatro adultos y dos niños",
        "cuánto cuesta enviar un paquete a francia",
    ),
    "fr": (
        "il me faut un taxi pour demain matin",
        "à quelle heure part le prochain train pour lyon",
        "je voudrais annuler mon rendez-vous de vendredi",
        "internet ne marche plus depuis hier soir",
        "nous sommes quatre adultes et deux enfants",
        "combien coûte un colis pour l'espagne",
    ),
}
VOICES = ("en-us", "en-us+f3")
SILENCE = 0.2  # seconds after the voice, when an engine is asked first
EVERY = 2  # of the beginnings only every other one is spoken


def beginnings(sentence: str) -> list[str]:
    words = sentence.split()
    return [" ".join(words[:count]) for count in range(1, len(words))]


def row(name: str, whole: list[float], cut: list[float], waits: tuple[list[float], list[float]] | None = None) -> None:
    """Values are what the engine says: above 0.5 is whole."""
    right = sum(value > 0.5 for value in whole), sum(value <= 0.5 for value in cut)
    line = f"{name:<42} {right[0] / len(whole):5.0%} of {len(whole):<4} {right[1] / len(cut):5.0%} of {len(cut):<4}"
    if waits:
        line += f"  {median(waits[0]):4.2f} s {median(waits[1]):4.2f} s"
    print(line)


def transcripts(language: str) -> None:
    whole = list(SENTENCES[language])
    cut = [beginning for sentence in whole for beginning in beginnings(sentence)]
    says = [[completeness(text, language) for text in texts] for texts in (whole, cut)]
    waits = [[waiting_time(value, 0.5) for value in values] for values in says]
    row(f"rule, words only, {language}", says[0], says[1], (waits[0], waits[1]))


async def spoken(shared: Shared, voice: str, text: str, rate: int) -> Floats:
    async def pieces() -> AsyncIterator[str]:
        yield text

    tts = make_tts(TtsSpec("local", voice=voice), shared)
    pcm = b"".join([event.pcm async for event in tts.speak(pieces(), rate) if isinstance(event, Audio)])
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    silence = np.zeros(int(SILENCE * rate), np.float32)
    return np.concatenate([samples[: loud[-1] + 1] if len(loud) else samples, silence])


async def voices(shared: Shared, model: SmartTurn | None, voice: str, rate: int) -> None:
    whole = list(SENTENCES["en"])
    cut = [beginning for sentence in whole for beginning in beginnings(sentence)[::EVERY]]
    fall: tuple[list[float], list[float]] = ([], [])
    words: tuple[list[float], list[float]] = ([], [])
    waits: tuple[list[float], list[float]] = ([], [])
    model_says: tuple[list[float], list[float]] = ([], [])
    for place, texts in enumerate((whole, cut)):
        for text in texts:
            samples = await spoken(shared, voice, text, rate)
            complete, falls = completeness(text, "en"), falling(prosody(samples, rate))
            fall[place].append(falls)
            words[place].append(sureness(complete, falls))
            waits[place].append(waiting_time(complete, falls))
            if model is not None:
                model_says[place].append(model.probability(samples, rate))
    about = f"{voice} {rate // 1000} kHz"
    row(f"rule, melody only, {about}", *fall)
    row(f"rule, words and melody, {about}", *words, waits)
    if model is not None:
        row(f"smart-turn-v3, {about}", *model_says)


async def main() -> None:
    print(f"{'':<42} {'whole: right':<14} {'cut: right':<13}  median wait, whole and cut")
    for language in SENTENCES:
        transcripts(language)
    shared = Shared()
    path = find_model()
    model = shared.get("model", lambda: SmartTurn(path)) if path is not None and is_installed() else None
    if model is None:
        print("smart-turn-v3: not measured, needs onnxruntime and pipecat-ai's model")
    try:
        for voice in VOICES:
            for rate in (8000, 16000):
                await voices(shared, model, voice, rate)
    except ProviderError as exc:
        print(f"voices: not measured, {exc}")
    finally:
        await shared.aclose()


if __name__ == "__main__":
    asyncio.run(main())
