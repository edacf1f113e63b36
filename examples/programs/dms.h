/* dms_v1: how a program takes messages (`dms alloc send`) and replies to them.
 *
 * What a range that is not wholly within the program's memory leads to is a trap, as for the program's own stores.
 * A program that uses none of these is told nothing, and whoever sends to it learns that it does not listen.
 */
#ifndef DMS_H
#define DMS_H

#include <stdint.h>

#define DMS_IMPORT(name) __attribute__((import_module("dms_v1"), import_name(#name))) extern

/* Longest body, and longest type, of a message or a reply, in bytes. */
#define DMS_MESSAGE_MAX 65536
#define DMS_TYPE_MAX 128

/* There is no message: none came in time, or none was taken before. */
#define DMS_NONE (-1)
/* Nobody waits for a reply, or not any more. */
#define DMS_NOBODY_WAITS (-2)
/* The reply is longer than DMS_MESSAGE_MAX, or its type is none: 1 to 128 letters, digits and ._+-/ */
#define DMS_NOT_A_REPLY (-3)

/* Waits for the next message, which then is the current one; the one before is let go, and whoever waits for a reply
 * to it waits no longer. 0 does not wait, a negative time has no end. Gives its length, or DMS_NONE. */
DMS_IMPORT(message_wait) int32_t dms_message_wait(int64_t timeout_ms);

/* Copies the body of the current message, as much of it as fits. Gives its whole length, or DMS_NONE. */
DMS_IMPORT(message_read) int32_t dms_message_read(void *into, uint32_t capacity);

/* The same of its type, which is text without a closing zero. */
DMS_IMPORT(message_type) int32_t dms_message_type(char *into, uint32_t capacity);

/* Replies to the current message, once. Gives 0, or one of the negative numbers above. */
DMS_IMPORT(message_reply)
int32_t dms_message_reply(const char *type, uint32_t type_length, const void *body, uint32_t length);

#endif
