// The guide's example applications, each on a path of its own. What differs from the guide's text: the hosts of the
// weather tool and of the MCP server come from the environment, and the updates are sent at the first event that
// calls for them.
const http = require('node:http');
const { createEndpoint } = require('@jambonz/sdk/websocket');

const {
  PORT = '3000',
  GEOCODING_URL = 'https://geocoding-api.open-meteo.com',
  FORECAST_URL = 'https://api.open-meteo.com',
  MCP_URL = 'https://livescoremcp.com/sse',
} = process.env;

const envVars = {
  OPENAI_MODEL: { type: 'string', description: 'OpenAI model to use', default: 'gpt-4.1-mini' },
  SYSTEM_PROMPT: { type: 'string', description: 'System prompt', default: 'You are a helpful voice AI assistant.' },
};

const port = parseInt(PORT, 10);
const server = http.createServer();
const makeService = createEndpoint({ server, port, envVars });

// What most of them have in common.
function agent(session, prompt, more = {}) {
  session.on('/agent-complete', () => {
    session.hangup().reply();
  });
  session
    .agent({
      llm: {
        vendor: 'openai',
        model: 'gpt-4.1',
        llmOptions: { messages: [{ role: 'system', content: prompt }] },
      },
      stt: { vendor: 'deepgram', language: 'en-US' },
      tts: { vendor: 'cartesia', voice: 'sonic-english' },
      actionHook: '/agent-complete',
      ...more,
    })
    .send();
}

// Calls `then` at the first event of the type.
function once(session, type, then) {
  let isDone = false;
  session.on('/agent-event', (evt) => {
    if (evt.type === type && !isDone) {
      isDone = true;
      then(evt);
    }
  });
}

// deepgram-cartesia: the guide's "Basic Setup", which takes model and prompt from the application's variables.
makeService({ path: '/basic' }).on('session:new', (session) => {
  const model = session.data.env_vars?.OPENAI_MODEL || envVars.OPENAI_MODEL.default;
  const systemPrompt = session.data.env_vars?.SYSTEM_PROMPT || envVars.SYSTEM_PROMPT.default;

  session.on('/agent-event', (evt) => {
    if (evt.type === 'turn_end') {
      const { transcript, response, interrupted, latency } = evt;
      console.log('turn_end', JSON.stringify({ transcript, response, interrupted, latency }));
    }
  });

  session.on('/agent-complete', () => {
    session.hangup().reply();
  });

  session
    .agent({
      llm: {
        vendor: 'openai',
        model,
        llmOptions: { messages: [{ role: 'system', content: systemPrompt }] },
      },
      stt: { vendor: 'deepgram', language: 'en-US' },
      tts: { vendor: 'cartesia', voice: 'sonic-english' },
      turnDetection: 'krisp',
      earlyGeneration: true,
      bargeIn: { enable: true },
      eventHook: '/agent-event',
      actionHook: '/agent-complete',
    })
    .send();
});

// using-tools: speech credentials are the defaults of the application.
const weatherTool = {
  name: 'get_weather',
  description: 'Get the current temperature and wind speed for a location.',
  parameters: {
    type: 'object',
    properties: {
      location: { type: 'string', description: 'City name, e.g. "Portland"' },
      scale: { type: 'string', enum: ['celsius', 'fahrenheit'] },
    },
    required: ['location'],
  },
};

makeService({ path: '/using-tools' }).on('session:new', (session) => {
  session.on('/tool-call', async (evt) => {
    const { tool_call_id, name, arguments: args } = evt;

    if (name === 'get_weather') {
      try {
        const geoRes = await fetch(
          `${GEOCODING_URL}/v1/search?name=${encodeURIComponent(args.location)}&count=1`
        );
        const geoData = await geoRes.json();
        const { latitude, longitude } = geoData.results[0];

        const wxRes = await fetch(
          `${FORECAST_URL}/v1/forecast?latitude=${latitude}&longitude=${longitude}&current=temperature_2m,wind_speed_10m`
        );
        const weather = await wxRes.json();
        session.sendToolOutput(tool_call_id,
          `Temperature: ${weather.current.temperature_2m}°C, Wind: ${weather.current.wind_speed_10m} km/h`
        );
      } catch (err) {
        session.sendToolOutput(tool_call_id, `Error: ${err.message}`);
      }
      return;
    }

    session.sendToolOutput(tool_call_id, `Unknown tool: ${name}`);
  });

  session.on('/agent-complete', () => {
    session.hangup().reply();
  });

  session
    .agent({
      llm: {
        vendor: 'openai',
        model: 'gpt-4.1-mini',
        llmOptions: {
          messages: [{ role: 'system', content: 'You are a weather assistant.' }],
          tools: [weatherTool],
        },
      },
      toolHook: '/tool-call',
      eventHook: '/agent-event',
      actionHook: '/agent-complete',
    })
    .send();
});

makeService({ path: '/using-mcp-server' }).on('session:new', (session) => {
  const prompt = 'You are a sports assistant. Use available tools to answer questions about live scores.';
  agent(session, prompt, { mcpServers: [{ url: MCP_URL }] });
});

makeService({ path: '/crm-injection' }).on('session:new', (session) => {
  once(session, 'turn_end', () => {
    session.updateAgent({
      type: 'inject_context',
      messages: [
        {
          role: 'user',
          content: 'CRM context: Customer name: Sarah Mitchell. Account tier: Gold. ' +
            'Open support ticket: delayed delivery on the smart home hub.',
        },
      ],
    });
  });
  agent(session, 'You are a sales assistant.', { eventHook: '/agent-event' });
});

makeService({ path: '/persona-switch' }).on('session:new', (session) => {
  once(session, 'turn_end', () => {
    session.updateAgent({
      type: 'update_instructions',
      instructions: 'You are now a billing support agent. Help the caller with invoice questions.',
    });
  });
  agent(session, 'You are a receptionist.', { eventHook: '/agent-event' });
});

makeService({ path: '/supervisor-interrupt' }).on('session:new', (session) => {
  once(session, 'agent_response', () => {
    session.updateAgent({
      type: 'generate_reply',
      interrupt: true,
      user_input: 'URGENT: Tell the customer about the flash sale — 50% off all items for the next hour.',
    });
  });
  agent(session, 'You are a sales assistant.', { eventHook: '/agent-event' });
});

makeService({ path: '/dynamic-tools' }).on('session:new', (session) => {
  once(session, 'turn_end', () => {
    session.updateAgent({
      type: 'update_tools',
      tools: [
        {
          name: 'web_search',
          description: 'Search the web for current information',
          parameters: {
            type: 'object',
            properties: { query: { type: 'string' } },
            required: ['query'],
          },
        },
      ],
    });
  });
  session.on('/tool-call', (evt) => {
    session.sendToolOutput(evt.tool_call_id, { results: [`All about ${evt.arguments.query}`] });
  });
  agent(session, 'You are a helpful voice AI assistant.', { eventHook: '/agent-event', toolHook: '/tool-call' });
});

server.on('listening', () => console.log(`listening on port ${port}`));
