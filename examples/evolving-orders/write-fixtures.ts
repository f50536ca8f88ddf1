import { AggregateStore } from "eventfold-es";
import { FirstOrder } from "./generations/first.ts";
import { SecondOrder } from "./generations/second.ts";
import { ThirdOrder } from "./generations/third.ts";

/** Lets the first three generations write a store, one after the other. Its bytes are the same each time. */
export async function writeFixtures(directory: string): Promise<void> {
  let time = Date.UTC(2026, 0, 2);
  let ids = 0;
  const builder = AggregateStore.builder(directory)
    .clock(() => (time += 3_600_000))
    .ids(() => `order-event-${++ids}`);

  const first = await builder.aggregate(FirstOrder).open();
  await first.dispatch(FirstOrder.at("tea").Place({ item: "tea", price: "4.50" }));
  await first.dispatch(FirstOrder.at("tea").View());
  await first.dispatch(FirstOrder.at("tea").Send({ by: "bike" }));
  await first.close();

  const second = await builder.aggregate(SecondOrder).open();
  await second.dispatch(SecondOrder.at("breakfast").Place({ items: ["jam", "bread"], price: "7.20" }));
  await second.dispatch(SecondOrder.at("breakfast").Finish({ paid: "7.20", by: "van" }));
  await second.close();

  const third = await builder.aggregate(ThirdOrder).open();
  await third.dispatch(ThirdOrder.at("soap").Place({ items: ["soap"], cents: 310 }));
  await third.dispatch(ThirdOrder.at("tea").Pay({ cents: 450 }));
  await third.close();
}
