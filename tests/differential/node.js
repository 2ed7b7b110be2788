// Reads each request that arrives and answers with what llhttp saw: JSON, text as Latin-1.
const http = require('http');

const server = http.createServer({ maxHeaderSize: 65536 }, (request, response) => {
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => {
    const body = Buffer.concat(pieces).toString('hex');
    const seen = JSON.stringify({ method: request.method, target: request.url, fields: request.rawHeaders, body });
    response.setHeader('x-seen', Buffer.from(seen, 'latin1').toString('hex'));
    response.end();
  });
});
server.keepAliveTimeout = 60000;
server.on('clientError', (error, socket) => {
  const why = Buffer.from(String(error.code || error)).toString('hex');
  socket.end(`HTTP/1.1 400 Bad Request\r\nx-wrong: ${why}\r\nContent-Length: 0\r\n\r\n`);
});
server.listen(0, '127.0.0.1', () => console.log(`ready port=${server.address().port}`));
