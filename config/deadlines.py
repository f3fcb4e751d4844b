"""How long agentd waits for what is overdue, before it does something about it."""

from config.parts import Part, Seconds


class Deadlines(Part):
    """All in seconds. docs/timing.md has the table of what happens then; 0 switches off those marked (0: never)."""

    # The model
    first_token: Seconds = 5.0  # prompt → first token (0: never)
    token_gap: Seconds = 5.0  # from token to token (0: never)
    partial_sentence: Seconds = 0.7  # no token for so long: what there is of a sentence is spoken (0: never)
    hedge: Seconds = 0.0  # no first token for so long: a second request runs beside the first (0: never)
    retry_after: Seconds = 2.0  # the most that a vendor's Retry-After is obeyed
    avoid: Seconds = 30.0  # a model that has failed is not the first choice for so long
    # The voice
    first_audio: Seconds = 3.0  # text → audio (0: never)
    audio_gap: Seconds = 3.0  # from audio to audio, as long as there is text unsaid (0: never)
    # The turn
    final_transcript: Seconds = 1.5  # the caller is quiet: the last partial words become final ones
    late_transcript: Seconds = 5.0  # how long the words of a turn that was taken may come once more
    voice_without_words: Seconds = 15.0  # it is taken for noise
    reply: Seconds = 30.0  # prompt, or the last tool's result → first audio
    reply_stall: Seconds = 10.0  # all that came was played, and the reply is not complete
    hold: Seconds = 3.0  # held, and no more audio from the caller to decide on
    goodbye: Seconds = 15.0  # what is still to be said when the call is to end
    tool: Seconds = 20.0
