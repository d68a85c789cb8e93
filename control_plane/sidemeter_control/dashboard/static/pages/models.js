// The ways to price, and which fields each has.
import { t } from "../ground/words.js";

/** Each model: its words, and its fields in order. */
export const MODELS = {
  FLAT: { text: () => t("a fee"), fields: ["amount"] },
  PER_UNIT: { text: () => t("so much per unit"), fields: ["unitPrice"] },
  PACKAGE: { text: () => t("by the package"), fields: ["packagePrice", "packageSize"] },
  GRADUATED: { text: () => t("graduated: each tier at its own price"), fields: ["tiers"] },
  VOLUME: { text: () => t("by volume: all at the price of the tier reached"), fields: ["tiers"] },
  STAIRSTEP: { text: () => t("in steps: a fee for the tier reached"), fields: ["tiers"] },
  PERCENTAGE: { text: () => t("a percentage of an amount"), fields: ["percentage", "fixedPerEvent", "minPerEvent", "maxPerEvent"] },
  GRADUATED_PERCENTAGE: { text: () => t("a percentage that changes by tier"), fields: ["tiers"] },
  MATRIX: { text: () => t("by dimensions"), fields: ["rates", "defaultUnitPrice"] },
  TIME_OF_DAY: { text: () => t("by the time of day"), fields: ["bands", "defaultUnitPrice"] },
  DYNAMIC: { text: () => t("an amount that the event says"), fields: ["multiplier"] },
  OUTCOME: { text: () => t("by outcome"), fields: ["unitPrice", "outcome"] },
};

export const FIELDS = {
  amount: () => t("Amount"), unitPrice: () => t("Unit price"), packagePrice: () => t("Price of a package"), packageSize: () => t("Units in a package"),
  percentage: () => t("Percent"), fixedPerEvent: () => t("Fee per event"), minPerEvent: () => t("At least, per event"), maxPerEvent: () => t("At most, per event"),
  defaultUnitPrice: () => t("Price of all else"), multiplier: () => t("Times"), includedUnits: () => t("Units included"), minimum: () => t("At least"), maximum: () => t("At most"),
};

/** Of tiers: which columns a model has. */
export const TIER_FIELDS = {
  GRADUATED: ["unitPrice", "flatFee"], VOLUME: ["unitPrice", "flatFee"], STAIRSTEP: ["flatFee"], GRADUATED_PERCENTAGE: ["percentage", "flatFee"],
};
export const TIER_WORDS = { unitPrice: () => t("Unit price"), flatFee: () => t("Fee"), percentage: () => t("Percent") };

/** Whether a price can be drawn over a quantity alone. */
export const isDrawable = (charge) => ["PER_UNIT", "PACKAGE", "GRADUATED", "VOLUME", "STAIRSTEP"].includes(charge.model) && Boolean(charge.meter);

/** These are lists of their own. */
export const WRITTEN = ["rates", "bands", "outcome"];
