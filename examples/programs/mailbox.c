/* Waits for messages, and ends with what they said: the example of a program that is spoken to while it runs.
 *
 * Usage: mailbox [COUNT]
 *   COUNT   how many messages it waits for, 1 to 1000     [2]
 * Each message is a line of standard output, its number and its body; whoever waits for a reply is told how many are
 * still to come. `dms alloc send ID hello --wait` says something to it.
 * Exit codes: 0 done, 1 could not be written, 2 wrong usage.
 *
 * Build: ./build.sh
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dms.h"

static char body[DMS_MESSAGE_MAX];

int main(int argc, char **argv) {
    char *end = NULL;
    long count = argc > 1 ? strtol(argv[1], &end, 10) : 2;
    if (argc > 2 || (end && *end) || count < 1 || count > 1000) {
        fputs("usage: mailbox [COUNT]\n", stderr);
        return 2;
    }
    puts("waiting");
    for (long number = 1; number <= count; number++) {
        /* Said before it is waited for: whoever follows the job sees it at once. */
        if (fflush(stdout))
            return 1;
        int32_t length = dms_message_wait(-1);
        dms_message_read(body, sizeof body);
        printf("%ld: ", number);
        fwrite(body, 1, (size_t)length, stdout);
        putchar('\n');

        char reply[64];
        int reply_length = snprintf(reply, sizeof reply, "%ld more\n", count - number);
        dms_message_reply("text/plain", (uint32_t)strlen("text/plain"), reply, (uint32_t)reply_length);
    }
    return fflush(stdout) ? 1 : 0;
}
