// `node send_by_tus_js.mjs URL FILE SHA256`: send a file by tus-js-client in parts, stop in the middle, go on; print the answer's headers.
import { createReadStream, statSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.env.TUS_JS_CLIENT + "/");
const tus = require("tus-js-client");
const [url, file, sha256] = process.argv.slice(2);

function options(finish) {
  return {
    endpoint: `${url}/v1/uploads`,
    metadata: { filename: "model.pt", sha256 },
    uploadSize: statSync(file).size,
    chunkSize: 3_000_000,
    uploadDataDuringCreation: true,
    retryDelays: [0, 200, 1000],
    onError: (error) => {
      console.error(String(error));
      process.exit(1);
    },
    ...finish,
  };
}

const first = new tus.Upload(createReadStream(file), {
  ...options({}),
  onChunkComplete: async (_size, accepted) => {
    if (accepted < 6_000_000) return;
    await first.abort();
    const second = new tus.Upload(createReadStream(file), {
      ...options({}),
      uploadUrl: first.url,
      onSuccess: ({ lastResponse }) => console.log(lastResponse.getHeader("Saddlescope-Artifact")),
    });
    second.start();
  },
});
first.start();
