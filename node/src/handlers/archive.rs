//! Looks at what is over: it lies on the disk, so nobody waits for it in the Node's turn.

use dms_actors::{Answer, Context};
use dms_messages::JobId;
use dms_storage::Archive;
use dms_storage::books::{ContractRow, JobRow};

use crate::commands::CommandError;
use crate::node::Node;

impl Node {
    /// Answers with what `read` finds in the archive once all that memory has let go is there.
    pub(crate) fn answer_from_archive<T: Send + 'static>(
        &mut self,
        ctx: &mut Context<'_, Self>,
        read: impl FnOnce(&Archive) -> Result<T, CommandError> + Send + 'static,
    ) -> Answer<Result<T, CommandError>> {
        let (responder, answer) = Answer::later();
        self.with_archive(ctx, read, move |_, found, _| responder.reply(found));
        answer
    }

    /// Goes on with what `read` finds in the archive once all that memory has let go is there. If it never will be,
    /// nothing is read: what memory let go is in neither.
    pub(crate) fn with_archive<T: Send + 'static>(
        &mut self,
        ctx: &mut Context<'_, Self>,
        read: impl FnOnce(&Archive) -> Result<T, CommandError> + Send + 'static,
        then: impl FnOnce(&mut Self, Result<T, CommandError>, &mut Context<'_, Self>) + 'static,
    ) {
        self.record(ctx, Vec::new(), move |node, outcome, ctx| {
            if let Err(error) = outcome {
                return then(node, Err(error.into()), ctx);
            }
            let archive = Archive::new(node.parts.engine.clone());
            let reading = node.parts.workers.run(move || read(&archive));
            ctx.pipe(reading, move |node, found, ctx| {
                let found = found.unwrap_or_else(|error| Err(CommandError::Archive(error.to_string())));
                then(node, found, ctx);
            });
        });
    }
}

/// The archived job of this id.
pub(super) fn job(archive: &Archive, id: JobId) -> Result<JobRow, CommandError> {
    archive.job(id)?.ok_or(CommandError::UnknownJob(id))
}

/// The archived job of this id, and the contracts of its attempts that are archived too.
pub(super) fn job_with_contracts(
    archive: &Archive,
    id: JobId,
) -> Result<(JobRow, Vec<ContractRow>), CommandError> {
    let row = job(archive, id)?;
    let contracts = row.attempts.iter().map(|attempt| archive.contract(attempt.contract));
    let contracts: Result<Vec<_>, _> = contracts.collect();
    Ok((row, contracts?.into_iter().flatten().collect()))
}
