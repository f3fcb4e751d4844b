// What the parts of the page share: who may do what here, and what went wrong.

import { $ } from "./dom.js";

export const NOBODY = { agents: [], may_know: false, isIn: false };
export const here = { about: NOBODY };

export function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}
