/** Where this module is. The build replaces this file in the CommonJS output, which has `__filename` instead. */
// oxlint-disable-next-line typescript/ban-ts-comment -- an error in one of the two outputs only
// @ts-ignore TS1343
export const moduleLocation: string | undefined = import.meta.url;
