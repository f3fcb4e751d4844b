// Applications of the guide's "MCP Server Integration" and "Mid-conversation Updates", each on a path of its own:
// /using-mcp-server, /crm-injection, /persona-switch, /supervisor-interrupt, /dynamic-tools.
// The updates are the guide's; each is sent at the first event that calls for it.
const http = require('node:http');
const { createEndpoint } = require('@jambonz/sdk/websocket');

const port = parseInt(process.env.PORT || '3000', 10);
const server = http.createServer();
const makeService = createEndpoint({ server, port });

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
      eventHook: '/agent-event',
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

makeService({ path: '/using-mcp-server' }).on('session:new', (session) => {
  session.on('/agent-complete', () => {
    session.hangup().reply();
  });
  session
    .agent({
      llm: {
        vendor: 'openai',
        model: 'gpt-4.1',
        llmOptions: {
          messages: [{
            role: 'system',
            content: 'You are a sports assistant. Use available tools to answer questions about live scores.',
          }],
        },
      },
      stt: { vendor: 'deepgram', language: 'en-US' },
      tts: { vendor: 'cartesia', voice: 'sonic-english' },
      mcpServers: [
        { url: process.env.MCP_URL || 'https://livescoremcp.com/sse' },
      ],
      actionHook: '/agent-complete',
    })
    .send();
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
  agent(session, 'You are a sales assistant.');
});

makeService({ path: '/persona-switch' }).on('session:new', (session) => {
  once(session, 'turn_end', () => {
    session.updateAgent({
      type: 'update_instructions',
      instructions: 'You are now a billing support agent. Help the caller with invoice questions.',
    });
  });
  agent(session, 'You are a receptionist.');
});

makeService({ path: '/supervisor-interrupt' }).on('session:new', (session) => {
  once(session, 'agent_response', () => {
    session.updateAgent({
      type: 'generate_reply',
      interrupt: true,
      user_input: 'URGENT: Tell the customer about the flash sale — 50% off all items for the next hour.',
    });
  });
  agent(session, 'You are a sales assistant.');
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
  agent(session, 'You are a helpful voice AI assistant.', { toolHook: '/tool-call' });
});

server.on('listening', () => console.log(`listening on port ${port}`));
