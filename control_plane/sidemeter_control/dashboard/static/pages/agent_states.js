// What is known of agents, for every view that shows them.
import { useAnswer } from "../ground/live.js";
import { t } from "../ground/words.js";

const QUERY = `query Agents {
  agents { id service version epoch lastSeen backlog oldestPending state lossDeclarations { id epoch firstRow lastRow events reason noticedAt } }
  recovery { since awaited holders knownHolders }
}`;

/** Every agent, asked again every two seconds. */
export const useAgents = () => useAnswer(QUERY, {}, { every: 2000 });

export const AGENT_STATES = {
  CONNECTED: { tone: "good", text: () => t("connected") },
  DRAINING: { tone: "accent", text: () => t("draining") },
  SILENT: { tone: "", text: () => t("silent") },
  SILENT_WITH_BACKLOG: { tone: "bad", text: () => t("silent, with events") },
};
