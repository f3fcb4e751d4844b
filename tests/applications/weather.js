// The guide's weather tool, "Tool/Function Calling", and its basic setup around it. Only the hosts of the two fetches
// come from the environment.
const http = require('node:http');
const { createEndpoint } = require('@jambonz/sdk/websocket');

const { GEOCODING_URL = 'https://geocoding-api.open-meteo.com', FORECAST_URL = 'https://api.open-meteo.com' } = process.env;

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

const port = parseInt(process.env.PORT || '3000', 10);
const server = http.createServer();
const makeService = createEndpoint({ server, port });
const svc = makeService({ path: '/' });

svc.on('session:new', (session) => {
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

server.on('listening', () => console.log(`listening on port ${port}`));
