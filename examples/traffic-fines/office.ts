/**
 * The office: for a fine that was handed over to it, it adds the penalty 60 days after the notification and calls the debt
 * collector a year after the penalty. Whether a step is still needed is not decided here but by the fine, when
 * the time has come: it may have been paid, dismissed or appealed against meanwhile.
 */
import { type CommandEnvelope, processManager } from "eventfold-es";
import { DAYS_BEFORE_COLLECTION, DAYS_BEFORE_PENALTY, Fine } from "./fine.ts";

/** The actor of the office's steps. */
export const OFFICE = "office";

const byOffice = <E extends CommandEnvelope>(envelope: E): E => ({ ...envelope, context: { actor: OFFICE } });
const addPenalty = (id: string) => byOffice(Fine.at(id).AddPenaltyIfDue());
const collect = (id: string) => byOffice(Fine.at(id).CollectIfDue());

const DAY = 24 * 60 * 60 * 1000;

export const Office = processManager("office", { dispatches: [Fine] }).on(Fine, {
  HandedOver: (_, { id, data: { notifiedAt, penaltyAt } }) => ({
    schedule: [
      penaltyAt === null
        ? { at: notifiedAt + DAYS_BEFORE_PENALTY * DAY, key: id, dispatch: addPenalty(id) }
        : { at: penaltyAt + DAYS_BEFORE_COLLECTION * DAY, key: id, dispatch: collect(id) },
    ],
  }),
  // From the office or from the file: a file that has grown can add a penalty to a fine that the office handles.
  PenaltyAdded: (_, { id }) => ({ schedule: [{ in: `${DAYS_BEFORE_COLLECTION}d`, key: id, dispatch: collect(id) }] }),
  // While the prefect decided, the debt collector had to wait: perhaps it is his turn now.
  AppealResultNotified: (_, { id }) => collect(id),
});
