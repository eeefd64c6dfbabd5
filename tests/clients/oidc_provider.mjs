// Two OpenID Connect providers on loopback.
// Each line `keys NAME KEY...` on standard input replaces the keys of one of the two, corp or shop: the first one signs.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";

const keys = Object.fromEntries(
  ["first", "second"].map((kid) => {
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    return [kid, { ...privateKey.export({ format: "jwk" }), kid, alg: "RS256", use: "sig" }];
  }),
);
const groups = { ci: ["dev"], guest: ["guests"] };
const client = (id) => ({
  client_id: id, client_secret: `${id}-secret`, grant_types: ["client_credentials"], redirect_uris: [], response_types: [],
});

function provider(issuer, kids) {
  return new Provider(issuer, {
    jwks: { keys: kids.map((kid) => keys[kid]) },
    clients: Object.keys(groups).map(client),
    extraTokenClaims: (_, token) => ({ groups: groups[token.clientId] }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        // The resource is the audience: a client may ask for another one, too.
        getResourceServerInfo: (_, resource) => ({
          scope: "read", audience: resource, accessTokenTTL: 600, accessTokenFormat: "jwt", jwt: { sign: { alg: "RS256" } },
        }),
      },
    },
  });
}

const issuers = {};
for (const name of ["corp", "shop"]) {
  const server = createServer((request, response) => issuers[name].callback()(request, response));
  await new Promise((listens) => server.listen(0, "127.0.0.1", listens));
  const url = `http://127.0.0.1:${server.address().port}`;
  issuers[name] = provider(url, ["first"]);
  console.log(`issuer ${name} ${url}`);
}
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [, name, ...kids] = line.split(" ");
  issuers[name] = provider(issuers[name].issuer, kids);
  console.log(line.replace("keys", "has"));
}
