// A cascaded agent: the application hears what the caller says, asks a model of its own, and streams what it answers.
const http = require('node:http');
const { createEndpoint } = require('@jambonz/sdk/websocket');

const port = parseInt(process.env.PORT || '3000', 10);
const model = process.env.MODEL_URL || 'https://api.openai.com';
const server = http.createServer();
const makeService = createEndpoint({ server, port });

// The words of a streamed answer, as they come.
async function* answer(messages) {
  const response = await fetch(`${model}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${process.env.MODEL_KEY}` },
    body: JSON.stringify({ model: 'gpt-4.1-mini', stream: true, messages }),
  });
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of response.body) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data: {')) continue;
      const words = JSON.parse(line.slice(6)).choices[0]?.delta?.content;
      if (words) yield words;
    }
  }
}

makeService({ path: '/' }).on('session:new', (session) => {
  const messages = [{ role: 'system', content: 'You answer the phone. Be brief.' }];
  let isInterrupted = false;

  session
    .on('/speech-detected', async (evt) => {
      session.reply();
      if (!evt.speech?.is_final) return;
      messages.push({ role: 'user', content: evt.speech.alternatives[0].transcript });
      isInterrupted = false;
      for await (const words of answer(messages)) {
        if (isInterrupted) return;
        session.sendTtsTokens(words).catch(console.error);
      }
      session.flushTtsTokens();
    })
    .on('tts:user_interrupt', () => {
      isInterrupted = true;
    })
    .on('tts:tts_spoken', (evt) => {
      messages.push({ role: 'assistant', content: evt.text });
    });

  session
    .config({
      ttsStream: { enable: true },
      trackTtsPlayout: true,
      bargeIn: {
        enable: true,
        sticky: true,
        minBargeinWordCount: 1,
        actionHook: '/speech-detected',
        input: ['speech'],
      },
    })
    .say({ text: 'Hi there, how can I help you today?' })
    .send();
});

server.on('listening', () => console.log(`listening on port ${port}`));
