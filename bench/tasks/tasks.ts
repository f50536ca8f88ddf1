import { type CommandsTask, type FloorTask, runCommands, runFloor } from "./commands.ts";
import { type EventSizeTask, runEventSize } from "./event-size.ts";
import {
  type FreshTask,
  type ReadFloorTask,
  type ReadTask,
  runFresh,
  runRead,
  runReadFloor,
  runSkip,
  type SkipTask,
} from "./reading.ts";
import {
  type CreateTask,
  type FillTask,
  type LiveTask,
  type OpenTask,
  runCreate,
  runFill,
  runLive,
  runOpen,
} from "./stores.ts";
import type { Sample } from "./task.ts";

/** One measurement; each is made in a process of its own. */
export type Task =
  | CommandsTask
  | FloorTask
  | ReadTask
  | ReadFloorTask
  | FreshTask
  | SkipTask
  | FillTask
  | OpenTask
  | CreateTask
  | LiveTask
  | EventSizeTask;

/** `ready` is called, where a task can begin together with another process, when it is about to. */
export function run(task: Task, ready?: () => Promise<void>): Promise<Sample> {
  switch (task.task) {
    case "commands":
      return runCommands(task, ready);
    case "floor":
      return runFloor(task);
    case "load":
    case "project":
      return runRead(task);
    case "read floor":
      return runReadFloor(task);
    case "fresh":
      return runFresh(task);
    case "skip":
      return runSkip(task);
    case "fill":
      return runFill(task);
    case "open":
      return runOpen(task);
    case "create":
      return runCreate(task);
    case "live":
      return runLive(task);
    case "event size":
      return runEventSize(task);
  }
}
