//! Who may do what: the users of this server, what was denied, and connections that have lost their rights.
//!
//! Invariant: a connection holds on to its user, and each of its commands is checked against the rules of that moment. Who
//! changes users ends the connections of those that are gone, and of subscribers to what is forbidden now, by the mailboxes
//! of their workers; until then a user that is gone may do nothing.
//! Read next: `larder_acl`; `execute/access.rs` for the check; `commands/acl/` for what changes users.

use crate::clients::Client;
use crate::server::{Message, Server};
use crate::snapshot::Asker;
use larder_acl::{
    Catalog, Changed, Context, Denied, Entry, Log, Reason, Replaced, RuleError, Rules, User, Users,
    has_spaces, merge_selectors, parse_file, write_file,
};
use larder_config::{Problem, Reason as ConfigReason, Settings, StartPlan, UserLine};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Users, and what was denied them.
#[derive(Debug)]
pub struct Access {
    /// The users.
    pub users: Users,
    /// ACL LOG.
    pub log: Mutex<Log>,
    /// How often commands, keys, logins, channels and databases were denied.
    denied: [AtomicU64; 5],
    /// Those who load and save the file take turns.
    file_turn: Mutex<()>,
}

impl Access {
    /// The default user alone.
    pub fn new(catalog: &'static Catalog) -> Access {
        let denied = [const { AtomicU64::new(0) }; 5];
        Access { users: Users::new(catalog), log: Mutex::default(), denied, file_turn: Mutex::default() }
    }

    /// Makes the users that the configuration names.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn begin(&self, plan: &StartPlan) -> Result<(), String> {
        let settings = &plan.settings;
        check_lines(self.users.catalog(), plan)?;
        self.set_default_password(settings.requirepass());
        if !settings.aclfile().is_empty() {
            return self
                .load(settings)
                .map(drop)
                .map_err(|text| format!("the users cannot be loaded: {}", String::from_utf8_lossy(&text)));
        }
        let all_channels = opens_channels(settings);
        for line in &plan.users {
            let Some((name, rules)) = line.words.split_first() else { continue };
            let words: Vec<&[u8]> = rules.iter().map(Vec::as_slice).collect();
            let mut rules = merge_selectors(&words).unwrap_or_default();
            if name == larder_acl::DEFAULT {
                rules.insert(0, b"reset".to_vec());
            }
            // They were found right above.
            let _ = self.users.set(name, &rules, all_channels);
            if self.users.get(name).is_some_and(|user| !user.rules().is_on()) {
                let name = String::from_utf8_lossy(name);
                tracing::info!("the user '{name}' is disabled: its line has no 'on'");
            }
        }
        Ok(())
    }

    /// Gives the default user the password of `requirepass`, or none.
    pub fn set_default_password(&self, password: &[u8]) {
        let rules = match password {
            b"" => vec![b"nopass".to_vec()],
            password => vec![b"resetpass".to_vec(), [b">", password].concat()],
        };
        // These are rules, whatever the password is.
        let _ = self.users.set(larder_acl::DEFAULT, &rules, false);
    }

    /// Reads the users of `aclfile`, in place of all there are.
    ///
    /// # Errors
    /// What is wrong with the file, in Redis' words; then the users are those of before.
    pub fn load(&self, settings: &Settings) -> Result<Replaced, Vec<u8>> {
        let path = settings.aclfile();
        let _turn = self.file_turn.lock();
        let text = std::fs::read(path_of(path)).map_err(|error| {
            let reason = larder_config::Reason::from_io(&error).to_string();
            [b"Error loading ACLs, opening file '", path, b"': ", reason.as_bytes()].concat()
        })?;
        let users: BTreeMap<Vec<u8>, Rules> =
            parse_file(self.users.catalog(), path, &text, opens_channels(settings))?;
        Ok(self.users.replace(users))
    }

    /// Writes all users into `aclfile`: aside, then in its place.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, settings: &Settings) -> std::io::Result<()> {
        let _turn = self.file_turn.lock();
        let path = path_of(settings.aclfile());
        // Behind a symbolic link the file itself is replaced.
        let path = path.canonicalize().unwrap_or(path);
        let mut aside = path.clone().into_os_string();
        aside.push(format!(".tmp-{}", std::process::id()));
        let aside = PathBuf::from(aside);
        let written = write_aside(&aside, &path, &write_file(&self.users));
        if written.is_err() {
            // The first error is the one to report.
            let _ = std::fs::remove_file(&aside);
        }
        written
    }

    /// Notes that something was denied. `client`: the line of CLIENT LIST of who asked.
    pub fn note_denied(&self, mut entry: Entry, client: impl FnOnce() -> Vec<u8>, settings: &Settings) {
        self.denied[entry.reason as usize].fetch_add(1, Relaxed);
        let len_max = usize::try_from(settings.acllog_max_len()).unwrap_or(usize::MAX);
        if len_max > 0 {
            entry.client = client();
        }
        self.log.lock().add(entry, len_max);
    }

    /// How often something was denied.
    pub fn denied(&self, reason: Reason) -> u64 {
        self.denied[reason as usize].load(Relaxed)
    }
}

/// An entry of ACL LOG for a command line that was denied.
pub fn entry_of(
    catalog: &Catalog,
    user: &User,
    (id, denied): (usize, Denied),
    word: &[u8],
    context: Context,
    now_ms: u64,
) -> Entry {
    let (reason, object) = match denied {
        Denied::Command => (Reason::Command, catalog.name(id).as_bytes()),
        Denied::Database(_) => (Reason::Database, word),
        Denied::Key(_) => (Reason::Key, word),
        Denied::Channel(_) => (Reason::Channel, word),
    };
    Entry::new(reason, context, object, user.name(), now_ms)
}

/// Whether new users may use all channels.
pub fn opens_channels(settings: &Settings) -> bool {
    // The first word of the option's two.
    settings.acl_pubsub_default() == 0
}

/// The users as the configuration file has them: a line each, without the word `user`; none where they have a file of
/// their own.
pub fn config_lines(users: &Users, settings: &Settings) -> Vec<Vec<u8>> {
    if !settings.aclfile().is_empty() {
        return Vec::new();
    }
    let line = |user: Arc<User>| [user.name(), b" ", &user.rules().describe()].concat();
    users.all().into_iter().map(line).collect()
}

/// Looks whether the lines `user` of a configuration are right.
///
/// # Errors
/// The first that is not, in words.
fn check_lines(catalog: &Catalog, plan: &StartPlan) -> Result<(), String> {
    let has_file = !plan.settings.aclfile().is_empty();
    if has_file && !plan.users.is_empty() {
        return Err("users are defined in the configuration, and 'aclfile' names a file of users too: this would make mistakes \
                    and holes likely; define them in one of the two"
            .into());
    }
    let mut seen = BTreeSet::new();
    for line in &plan.users {
        if let Err(reason) = check_line(catalog, line, &mut seen, opens_channels(&plan.settings)) {
            let problem: Problem = line.problem(ConfigReason::new(reason));
            return Err(format!("the configuration has a user that is none\n{problem}"));
        }
    }
    Ok(())
}

fn check_line(
    catalog: &Catalog,
    line: &UserLine,
    seen: &mut BTreeSet<Vec<u8>>,
    all_channels: bool,
) -> Result<(), String> {
    let Some((name, words)) = line.words.split_first() else {
        return Err("wrong number of arguments".into());
    };
    let shown = String::from_utf8_lossy(name);
    if has_spaces(name) {
        return Err(format!("Error in user declaration '{shown}': Spaces not allowed in ACL usernames"));
    }
    if !seen.insert(name.clone()) {
        return Err(format!(
            "Error in user declaration '{shown}': Duplicate user found. A user can only be defined once in config files"
        ));
    }
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let rules = merge_selectors(&words)
        .map_err(|_| format!("Error in user declaration '{shown}': Unmatched parenthesis in selector"))?;
    let mut user = Rules::new(all_channels);
    for rule in &rules {
        user.apply(catalog, rule, all_channels).map_err(|error| {
            // Only names of commands are no secrets.
            let rule =
                if error == RuleError::Unknown { String::from_utf8_lossy(rule) } else { shown.clone() };
            format!("Error in user declaration '{rule}': {}", error.text())
        })?;
    }
    Ok(())
}

fn path_of(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path)).to_owned()
}

/// Writes a file that holds secrets, and puts it in the place of another.
fn write_aside(aside: &Path, path: &Path, text: &[u8]) -> std::io::Result<()> {
    let permissions = std::fs::metadata(path).map(|metadata| metadata.permissions());
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(aside)?;
    if let Ok(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(aside, path)
}

/// The look of all workers after their subscribers, for which a client waits.
#[derive(Debug)]
pub struct Check {
    /// Looks that have not been taken.
    left: AtomicUsize,
    asker: Asker,
}

impl Check {
    /// One worker is through; the last one answers the client.
    pub fn one_has_looked(&self, server: &Server) {
        if self.left.fetch_sub(1, Relaxed) == 1 {
            self.asker.answer(server, b"+OK\r\n");
        }
    }
}

impl Server {
    /// Ends the connections of users that are gone, but for one. Answers whether that one is among them.
    pub fn end_connections(&self, gone: &[Arc<User>], me: u64) -> bool {
        let mut is_me_gone = false;
        if gone.is_empty() {
            return false;
        }
        for client in self.clients.all() {
            if !client.names.lock().user.is_gone() {
                continue;
            }
            if client.id == me {
                is_me_gone = true;
                continue;
            }
            // Gone for everybody from here on, though its worker closes it a little later.
            self.clients.remove(client.id);
            self.blocked.take(client.id);
            self.ask_to_close(&client);
        }
        is_me_gone
    }

    /// Has a connection's worker close it.
    pub fn ask_to_close(&self, client: &Client) {
        if let Some(mailbox) = self.mailboxes.get(client.worker) {
            mailbox.send(Message::Kill(client.id));
        }
    }

    /// Has every worker close subscribers to what their users may not hear any more. Who asks is answered once all have, so
    /// that it finds none of them.
    pub fn end_subscribers(&self, changed: &[Changed], asker: Option<Asker>) {
        let changed: Vec<_> = changed.iter().filter(|changed| changed.takes_channels()).collect();
        let left = AtomicUsize::new(changed.len() * self.mailboxes.len());
        let check = asker.map(|asker| Arc::new(Check { left, asker }));
        for (changed, mailbox) in
            changed.iter().flat_map(|one| self.mailboxes.iter().map(move |to| (one, to)))
        {
            mailbox.send(Message::CheckSubscribers(Arc::clone(&changed.user), check.clone()));
        }
    }
}
