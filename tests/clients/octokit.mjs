// octokit against the mirror: node octokit.mjs BASE TOKEN
import assert from "node:assert/strict";
import { Octokit } from "@octokit/rest";

const [base, token] = process.argv.slice(2);
const fc3 = { owner: "devsapp", repo: "fc3" };
for (const baseUrl of [base, `${base}/api/v3`]) {
  const { repos } = new Octokit({ baseUrl, auth: token }).rest;
  const { data: list } = await repos.listReleases(fc3);
  assert.deepEqual(list.map((release) => release.tag_name), ["v0.2.0", "v0.2.0-rc.1", "v0.1.1", "v0.1.0"]);
  const { data: latest } = await repos.getLatestRelease(fc3);
  assert.equal(latest.tag_name, "v0.2.0");
  assert.ok(latest.zipball_url.startsWith(`${base}/`), latest.zipball_url);
  const { data: tag } = await repos.getReleaseByTag({ ...fc3, tag: "v0.1.0" });
  assert.equal(tag.tag_name, "v0.1.0");
  const { data: byId } = await repos.getRelease({ ...fc3, release_id: tag.id });
  assert.equal(byId.tag_name, "v0.1.0");
  await assert.rejects(repos.getReleaseByTag({ ...fc3, tag: "v9" }), (error) => error.status === 404 && error.message.includes("has no release v9"));
  for (const ref of ["v0.1.0", "refs/tags/v0.1.0", "dev"]) {
    const { data: zip, headers } = await repos.downloadZipballArchive({ ...fc3, ref });
    assert.equal(headers["content-type"], "application/zip");
    const bytes = Buffer.from(zip);
    assert.equal(bytes.subarray(0, 4).toString("latin1"), "PK\x03\x04");
    assert.ok(/\/readme\.md/i.test(bytes.toString("latin1")), "the files stand in the zip's one folder");
    if (ref !== "dev") assert.ok(bytes.length > 200_000, `${bytes.length} bytes`);
  }
}
console.log("octokit: all as it should be");
