//! Faults of the machine: no name resolution, no threads, folders that cannot be synced.

use fakes::machine::MachineFault;

use super::Campaign;

pub(super) const ALL: [MachineFault; 4] = [
    MachineFault::NamesHang,
    MachineFault::NamesFail,
    MachineFault::NoThreads,
    MachineFault::NoFolderSync,
];

pub(super) fn name(fault: MachineFault) -> &'static str {
    match fault {
        MachineFault::NamesHang => "machine: DNS hangs",
        MachineFault::NamesFail => "machine: DNS fails",
        MachineFault::NoThreads => "machine: no threads",
        MachineFault::NoFolderSync => "machine: EINVAL when a folder is synced",
    }
}

impl Campaign {
    pub(super) fn inject_machine_fault(&mut self, fault: MachineFault) {
        self.count(name(fault));
        if fault == MachineFault::NamesHang {
            self.server.ledger().record_hanging_names();
        }
        self.machine_faults.set(Some(fault)).expect("a file");
    }

    pub(super) fn end_machine_faults(&self) {
        // The lookups succeed a moment later, and the requests follow.
        self.server.ledger().record_working_names();
        self.machine_faults.set(None).expect("a file");
    }
}
